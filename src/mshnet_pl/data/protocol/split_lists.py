"""The published split lists: which image counts for which class."""

import pickle
from pathlib import Path
from typing import Any

from mshnet_pl.errors import DataError

Pair = tuple[str, int]
"""An image's name and a class (0-based) that it is listed for."""


def read_text_list(path: Path, classes: int) -> list[Pair]:
    """Read PASCAL-5i's format: one ``2007_000032__01`` a line, the class 1-based.

    Raises:
        DataError: the file is missing, or a line is not of that form; names the file and the line.
    """
    if not path.is_file():
        raise DataError(f"split list {path} is missing; put it there, or leave data.splits_dir out to derive the lists")
    pairs, problems = [], []
    for number, line in enumerate(path.read_text().split("\n"), start=1):
        name, separator, label = line.strip().rpartition("__")
        if separator and label.isdigit() and 1 <= int(label) <= classes:
            pairs.append((name, int(label) - 1))
        elif line.strip():
            problems.append(f"{path}:{number}: {line.strip()!r}")
    if problems:
        raise DataError.listing(
            "split list lines that are not NAME__CLASS:", problems, f"Mend them: the class is a number 1 to {classes}."
        )
    return pairs


class _PlainUnpickler(pickle.Unpickler):
    """Builds containers, strings and numbers only: nothing in the file can name code to run."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - the base class's signature
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")


def read_pickle_list(path: Path, classes: int) -> list[Pair]:
    """Read COCO-20i's format: a pickled dict of class (0-based) to image names, without executing anything in it.

    Raises:
        DataError: the file is missing, is no such dict, or holds anything but plain containers, strings and numbers.
    """
    if not path.is_file():
        raise DataError(f"split list {path} is missing; put it there, or leave data.splits_dir out to derive the lists")
    try:
        with path.open("rb") as file:
            lists = _PlainUnpickler(file).load()
    except Exception as error:  # a damaged pickle raises almost anything
        raise DataError(f"split list {path} is not a plain pickle: {error}; take the published file") from error
    if not isinstance(lists, dict) or not all(
        isinstance(c, int) and 0 <= c < classes and isinstance(names, list) and all(isinstance(n, str) for n in names)
        for c, names in lists.items()
    ):
        raise DataError(f"split list {path} is not a dict of class 0 to {classes - 1} to names; take the published file")
    return [(name, c) for c, names in lists.items() for name in names]


def by_class(pairs: list[Pair]) -> dict[int, list[str]]:
    """Names of every class, in list order."""
    names: dict[int, list[str]] = {}
    for name, class_id in pairs:
        names.setdefault(class_id, []).append(name)
    return names
