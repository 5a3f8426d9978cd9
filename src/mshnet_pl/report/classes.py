"""The IoU of every class, and of objects by their size."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from mshnet_pl.report.bootstrap import Estimate
from mshnet_pl.report.formats import aligned
from mshnet_pl.report.imagenet import occurs
from mshnet_pl.report.row import Cell, FoldName, Row, sorted_folds
from mshnet_pl.utils.numbers import percent
from mshnet_pl.utils.text import escaped

_LIMITS = (0, 5, 10, 15, 100)
SIZES = tuple(f"{low}-{high}%" if high < _LIMITS[-1] else f"> {low}%" for low, high in pairwise(_LIMITS))
"""Shares of the picture that an object covers."""


class ClassScores(NamedTuple):
    """The IoU of every class, of one data set and number of shots."""

    data: str
    shot: int
    classes: list[str]
    """In the order of the folds."""
    scores: dict[str, dict[str, Estimate]]
    """By row, then by class, in percent."""
    shares: dict[str, float]
    """Of every class's objects in the picture, the mean over episodes, in percent; of classes whose counts were recorded."""
    by_size: dict[str, list[float | None]]
    """By row the IoU of the episodes of each of ``SIZES``, pooled over classes, in percent."""


def class_scores(rows: Iterable[Row]) -> Iterator[ClassScores]:
    """By data set, then by number of shots."""
    by_test: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in rows:
        for shot in row.shots:
            by_test[row.key.data, shot].append(row)
    for (data_set, shot), group in sorted(by_test.items()):
        found: dict[FoldName, dict[str, None]] = defaultdict(dict)
        scores: dict[str, dict[str, Estimate]] = {}
        shares: dict[str, float] = {}
        by_size: dict[str, list[float | None]] = {}
        for row in group:
            own = scores.setdefault(row.label, {})
            for fold in row.folds(shot):
                tests = row.tests[Cell(shot, fold)].values()
                for name in dict.fromkeys(name for measured in tests for name in measured.test.class_iou):
                    estimate = row.estimate(shot, [fold], name)
                    if estimate:
                        own[name] = estimate
                        found[fold][name] = None
            pixels = _pixels(row, shot)
            shares |= {name: float(100 * np.mean(p[:, 2] / p[:, 3])) for name, p in pixels.items() if name not in shares}
            if pixels:
                by_size[row.label] = _by_size(np.concatenate([*pixels.values()]))
        classes = [*dict.fromkeys(name for fold in sorted_folds(found) for name in found[fold])]
        yield ClassScores(data_set, shot, classes, scores, shares, by_size)


def markdown(title: str, found: ClassScores) -> str:
    """A line a class and a size of objects, a column a row."""
    lines = [["class", "object", "ImageNet-1k", *found.scores], ["---", "---:", "---", *["---:"] * len(found.scores)]]
    for name in found.classes:
        share = f"{found.shares[name]:.0f}%" if name in found.shares else "-"
        known = [_text(by_class[name].value if name in by_class else None) for by_class in found.scores.values()]
        lines.append([name, share, occurs(found.data, name), *known])
    for place, size in enumerate(SIZES) if found.by_size else ():
        known = [_text(found.by_size[row][place] if row in found.by_size else None) for row in found.scores]
        lines.append(["objects by size", size, "", *known])
    return "\n".join([f"### {escaped(title)}", "", aligned(lines)])


def _pixels(row: Row, shot: int) -> Mapping[str, Float64[np.ndarray, "N 5"]]:
    """Pixel counts of every episode by class."""
    found: dict[str, list[Float64[np.ndarray, "N 5"]]] = defaultdict(list)
    for cell, tests in row.tests.items():
        for measured in tests.values() if cell.shot == shot else ():
            if counts := measured.counts:
                for place, name in enumerate(measured.test.class_iou):
                    pixels = counts.pixels[:, place]
                    found[name].append(pixels[pixels[:, 4] > 0])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _by_size(pixels: Float64[np.ndarray, "N 5"]) -> list[float | None]:
    intersection, predicted, true, known, _ = pixels.T
    share = 100 * true / known
    groups = [(share >= low) & ((share < high) | (high == _LIMITS[-1])) for low, high in pairwise(_LIMITS)]
    union = predicted + true - intersection
    return [float(percent(intersection[g].sum(), union[g].sum())) if g.any() else None for g in groups]


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
