"""What control episodes say: whether the supports decide what is segmented."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from mshnet_pl.errors import DataError
from mshnet_pl.options import Control

_REPLICATES = 2000
_LEVELS = 2.5, 97.5
_MAX_PIXELS = 2**53  # what a float64 counts
_COLUMNS = ("control", "query", "class_id", "intersection", "predicted", "true", "known", "presence")


class ControlRow(NamedTuple):
    """A control episode."""

    control: Control
    query: str
    class_id: int
    """What is right to segment."""
    pixels: tuple[int, ...]
    """Intersection, predicted, true and known ones."""
    presence: float
    """As ``inference.presence``."""


Weights = Float64[np.ndarray, "replicates rows"]
"""How often every row counts."""
Values = Float64[np.ndarray, "replicates"]


def own_miou(rows: Sequence[ControlRow], weights: Weights) -> Values:
    """The mIoU with the class's own supports, in percent."""
    return _miou(rows, weights, Control.own)


def other_class_miou(rows: Sequence[ControlRow], weights: Weights) -> Values:
    """The mIoU, of the query's class, with supports of a class that the query does not show."""
    return _miou(rows, weights, Control.other_class)


def presence_auroc(rows: Sequence[ControlRow], weights: Weights) -> Values:
    """How often presence is larger where the class is there than where it is not, in percent; 50 is chance."""
    there, absent = (_places(rows, kind) for kind in (Control.own, Control.other_class))
    presence = np.array([row.presence for row in rows])
    difference = presence[there][:, None] - presence[absent]
    won = np.where(difference == 0, 0.5, difference > 0)
    of, by = weights[:, there], weights[:, absent]
    return _share(((of @ won) * by).sum(1), of.sum(1) * by.sum(1))


def which_of_two(rows: Sequence[ControlRow], weights: Weights) -> Values:
    """Of the pixels of two classes, each asked for in turn, the share that is labelled rightly; 50 is chance."""
    places = _places(rows, Control.which_of_two)
    intersection, predicted, true, known = _pixels(rows)[places].T
    right = known - (predicted + true - 2 * intersection)
    return _share(weights[:, places] @ right, weights[:, places] @ known)


MEASURES: dict[str, Callable[[Sequence[ControlRow], Weights], Values]] = {
    "own_miou": own_miou,
    "other_class_miou": other_class_miou,
    "presence_auroc": presence_auroc,
    "which_of_two": which_of_two,
}


def measures(rows: Sequence[ControlRow]) -> dict[str, float]:
    """Every measure by its name, in percent; that of two classes only where a query shows two."""
    once = np.ones((1, len(rows)))
    return {name: float(MEASURES[name](rows, once)[0]) for name in _known(rows)}


def intervals(tests: Sequence[Sequence[ControlRow]]) -> dict[str, tuple[float, float, float]]:
    """The mean of every measure over tests with its 95% bootstrap interval.

    Query images are drawn, each with all its episodes; supports are not.
    """
    rng = np.random.default_rng(0)
    drawn = [_drawn(rows, rng) for rows in tests]
    found = {}
    for name in _known([row for rows in tests for row in rows]):
        point = np.mean([measures(rows)[name] for rows in tests if name in _known(rows)])
        of_tests = [MEASURES[name](rows, w) for rows, w in zip(tests, drawn, strict=True) if name in _known(rows)]
        low, high = np.percentile(np.mean(of_tests, axis=0), _LEVELS)
        found[name] = float(point), float(low), float(high)
    return found


def text(rows: Sequence[ControlRow]) -> str:
    """The rows as CSV."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(_COLUMNS)
    writer.writerows((row.control, row.query, row.class_id, *row.pixels, row.presence) for row in rows)
    return file.getvalue()


def read(path: Path) -> list[ControlRow]:
    """The rows of a file.

    Raises:
        DataError: a damaged file.
    """
    try:
        head, *lines = csv.reader(path.read_text().splitlines())
        if tuple(head) != _COLUMNS or not lines or any(len(line) != len(_COLUMNS) for line in lines):
            raise ValueError(f"expected rows of {', '.join(_COLUMNS)}")
        rows = [
            ControlRow(Control(control), query, int(class_id), tuple(map(int, pixels)), float(there))
            for control, query, class_id, *pixels, there in lines
        ]
        if not all(0 <= count < _MAX_PIXELS for row in rows for count in row.pixels):
            raise ValueError(f"expected pixel counts from 0 to {_MAX_PIXELS}")
        return rows
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); delete it, and the report goes without control episodes") from error


def _known(rows: Sequence[ControlRow]) -> list[str]:
    two = any(row.control is Control.which_of_two for row in rows)
    return [name for name in MEASURES if two or name != which_of_two.__name__]


def _places(rows: Sequence[ControlRow], kind: Control) -> list[int]:
    return [place for place, row in enumerate(rows) if row.control is kind]


def _pixels(rows: Sequence[ControlRow]) -> Float64[np.ndarray, "rows 4"]:
    """Intersection, predicted, true and known."""
    return np.array([row.pixels for row in rows], np.float64).reshape(-1, 4)


def _miou(rows: Sequence[ControlRow], weights: Weights, kind: Control) -> Values:
    """Over the classes that a replicate draws; as in ``evaluation.metrics``, one without a pixel has 0."""
    places = _places(rows, kind)
    intersection, predicted, true, _ = _pixels(rows)[places].T
    classes = np.array([rows[place].class_id for place in places])
    of_class = (classes[:, None] == np.unique(classes)).astype(np.float64)
    inside, union = (weights[:, places] @ (x[:, None] * of_class) for x in (intersection, predicted + true - intersection))
    drawn = weights[:, places] @ of_class > 0
    return np.asarray((_share(inside, union) * drawn).sum(1) / np.maximum(drawn.sum(1), 1))


def _share(part: Float64[np.ndarray, "*shape"], whole: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """In percent; 0 of nothing."""
    return np.asarray(np.where(whole > 0, 100 * part / np.maximum(whole, 1e-300), 0.0))


def _drawn(rows: Sequence[ControlRow], rng: np.random.Generator) -> Weights:
    """How often every row counts in replicates that draw query images."""
    queries, which = np.unique([row.query for row in rows], return_inverse=True)
    often = rng.multinomial(len(queries), np.full(len(queries), 1 / len(queries)), size=_REPLICATES)
    return often[:, which].astype(np.float64)
