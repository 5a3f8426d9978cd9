"""Whether results are what they say: scores have to follow from the counts beside them."""

import re
from collections.abc import Iterator, Sequence
from math import isclose, nan
from pathlib import Path
from statistics import fmean

import numpy as np

from mshnet_pl import results
from mshnet_pl.report import controls
from mshnet_pl.report.controls import ControlRow
from mshnet_pl.report.counts import PixelCounts
from mshnet_pl.report.measured import Measured
from mshnet_pl.results import METRIC, Measurement, Result
from mshnet_pl.utils.hashing import sha256
from mshnet_pl.utils.numbers import percent

_TOLERANCE = 1e-6  # percent
_MAX_NAMED = 3  # differences that a line names
_DIGEST = 10  # characters of the configuration's hash in a folder's name


def wrong(result: Result, folder: Path) -> list[str]:
    """What cannot be right about a result, each with the file's name; if nothing is, about the images of its episodes."""
    tests = [Measured(result, test, folder) for test in result.tests]
    return [*_wrong(folder / results.FILE, result, tests)] or [
        f"{one.counts_file}: its episodes show other classes than the file of their images says"
        for one in tests
        if (own := one.counts) and (images := one.images) and not images.fits(own.classes, own.pixels[..., 4] > 0)
    ]


def _wrong(path: Path, result: Result, tests: Sequence[Measured]) -> Iterator[str]:
    if result.metric != METRIC:
        yield f"{path}: scored by version {result.metric} of the metric, but this is version {METRIC}: test it again"
    named = re.search(rf"_([0-9a-f]{{{_DIGEST}}})$", path.parent.name)
    of_training = result.command == "train"  # a test's folder tells the path of its checkpoint, the result its content
    if of_training and named and not result.config_hash.startswith(named[1]):
        yield f"{path}: of configuration {result.config_hash[:_DIGEST]}, but in the folder of {named[1]}: move it back"
    for one in tests:
        test, counts, file = one.test, one.counts, one.counts_file
        where = f"{path}: {test.weights}, {test.shot}-shot, seed {test.seed}"
        yield from _listed(where, "follows as {} from the other numbers", _contradictions(test))
        if counts and file:
            if test.counts_sha256 is not None and test.counts_sha256 != sha256(file):
                yield f"{file}: not the file that was written with the result"
            yield from _listed(where, f"{{}} by {file.name}", _differences(test, counts))
        if file := one.controls_file:
            yield from _listed(where, f"{{}} by {file.name}", _of_controls(test, controls.read(file)))


def _listed(where: str, rule: str, found: Iterator[tuple[str, float, float]]) -> Iterator[str]:
    """One line of the first differences, and how many more there are."""
    lines = [f"{name} is {value:.10g}, but {rule.format(f'{expected:.10g}')}" for name, value, expected in found]
    if lines:
        yield f"{where}: {'; '.join(lines[:_MAX_NAMED])}" + (
            f"; and {len(lines) - _MAX_NAMED} more" if len(lines) > _MAX_NAMED else ""
        )


def _contradictions(test: Measurement) -> Iterator[tuple[str, float, float]]:
    """Scores, what the file says, and what follows from its intersections and unions."""
    share = {c: percent(test.intersection[c], union) for c, union in test.union.items() if c in test.intersection}
    if share.keys() != test.class_iou.keys() or not share:
        yield "number of classes", len(test.class_iou), len(share)
        return
    foreground = percent(sum(test.intersection.values()), sum(test.union.values()))
    pairs = [(f"IoU of {c}", test.class_iou[c], iou) for c, iou in share.items()]
    pairs += [("mIoU", test.miou, fmean(share.values())), ("foreground IoU", test.foreground_iou, foreground)]
    pairs.append(("FB-IoU", test.fb_iou, (test.foreground_iou + test.background_iou) / 2))
    yield from ((name, a, b) for name, a, b in pairs if not isclose(a, b, abs_tol=_TOLERANCE, rel_tol=0))


def _of_controls(test: Measurement, rows: Sequence[ControlRow]) -> Iterator[tuple[str, float, float]]:
    """Measures of control episodes, what the file says, and what the rows give."""
    found = controls.measures(rows)
    for name, value in (test.controls or {}).items():
        if not isclose(value, found.get(name, nan), abs_tol=_TOLERANCE, rel_tol=0):
            yield name, value, found.get(name, nan)


def _differences(test: Measurement, counts: PixelCounts) -> Iterator[tuple[str, float, float]]:
    """Scores, what the file says, and what the episodes' counts give."""
    intersection, predicted, true, known, _ = np.moveaxis(counts.pixels.sum(0), -1, 0)  # (C,) each
    union = predicted + true - intersection
    overlap, covered, seen = intersection.sum(), union.sum(), known.sum()
    names = [*test.class_iou]
    pairs: list[tuple[str, float, float]] = [
        ("number of episodes", test.episodes, len(counts.numbers)),
        ("mIoU", test.miou, fmean(map(percent, intersection, union))),
        ("background IoU", test.background_iou, percent(seen - covered, seen - overlap)),
        ("mIoU of everything foreground", test.everything_foreground_miou, fmean(map(percent, true, known))),
        ("number of classes", len(names), len(counts.classes)),
    ]
    if len(names) == len(counts.classes):  # both in the order of the classes' numbers
        for i, name in enumerate(names):
            pairs.append((f"intersection of {name}", test.intersection.get(name, -1), intersection[i]))
            pairs.append((f"union of {name}", test.union.get(name, -1), union[i]))
    yield from ((name, a, float(b)) for name, a, b in pairs if not isclose(a, b, abs_tol=_TOLERANCE, rel_tol=0))
