"""The published split lists: which image counts for which class."""

import io
import pickle
import re
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath
from typing import Any, ClassVar

from mshnet_pl.errors import DataError
from mshnet_pl.options import Subset
from mshnet_pl.utils.text import read_lines

Pair = tuple[str, int]
"""An image's name and a class (0-based) that it is listed for."""

_FOLDS = 4
_EXTENSIONS = "jpg", "jpeg", "png", "mat", "xml", "bmp", "tif", "tiff"


def bare(entry: str) -> str:
    """An image's name, without the folders and the extension that an entry may have, of whatever system."""
    name = PureWindowsPath(entry.strip().strip("\"'")).name
    stem, _, extension = name.rpartition(".")
    return stem if stem and extension.lower() in _EXTENSIONS else name


def read_names(path: Path) -> dict[str, str]:
    """Images, one a line, and where each is named first (``FILE:LINE``).

    Folders and extensions do not count; a line may name an image and its mask.

    Raises:
        DataError: the file is missing or no text, or has lines that do not name one image; lists them.
    """
    names: dict[str, str] = {}
    problems = []
    for number, line in read_lines(path):
        found = {bare(word) for word in re.split(r"[\s,;]+", line) if word}
        if len(found) == 1:
            names.setdefault(found.pop(), f"{path}:{number}")
        else:
            problems.append(f"{path}:{number}: {line!r}")
    if problems:
        raise DataError.listing("lines that do not name one image:", problems, "Give one image a line.")
    return names


def read_classes(path: Path) -> list[str]:
    """FSS-1000's format: the folder of a class a line.

    Raises:
        DataError: the file is missing, no text, or empty.
    """
    names = [PureWindowsPath(line.strip("\"'")).name for _, line in read_lines(path)]
    if not names:
        raise DataError(f"split list {path} is empty; it names one class a line")
    return names


def read_text_lists(paths: Iterable[Path], classes: int) -> list[dict[Pair, str]]:
    """Read files in PASCAL-5i's format: one ``2007_000032__01`` a line, the class 1-based.

    Folders and extensions do not count.

    Returns:
        For every file its pairs, in order, and where each stands (``FILE:LINE``).

    Raises:
        DataError: files that are missing or no text, lines that are not of that form, pairs that a file has twice; lists
            all of them.
    """
    lists: list[dict[Pair, str]] = []
    problems = []
    for path in paths:
        lists.append({})
        try:
            lines = read_lines(path)
        except DataError as error:
            problems.append(str(error))
            continue
        for number, line in lines:
            place, form = f"{path}:{number}", re.fullmatch(r"(.+)__([0-9]{1,2})", bare(line))
            pair = None if form is None else (bare(form[1]), int(form[2]) - 1)
            if pair is None or not 0 <= pair[1] < classes:
                problems.append(f"{place}: {line!r}")
            elif pair in lists[-1]:
                problems.append(f"{place}: {line!r} is at {lists[-1][pair]} already")
            else:
                lists[-1][pair] = place
    if problems:
        raise DataError.listing(
            "split lists that are not one NAME__CLASS a line:",
            problems,
            f"Mend them, or leave data.splits_dir out to derive the lists: the class is a number 1 to {classes}.",
        )
    return lists


def read_published(folder: Path, classes: int) -> dict[Subset, dict[Pair, str]]:
    """PASCAL-5i's lists ``{trn,val}/fold{0..3}.txt``: all pairs, and where each stands (``FILE:LINE``).

    Raises:
        DataError: as ``read_text_lists``, or pairs that two lists of a folder have.
    """
    wanted = [(subset, folder / subset.value / f"fold{fold}.txt") for subset in Subset for fold in range(_FOLDS)]
    read = read_text_lists((path for _, path in wanted), classes)
    pairs: dict[Subset, dict[Pair, str]] = {subset: {} for subset in Subset}
    twice = []
    for (subset, _), listed in zip(wanted, read, strict=True):
        twice += [f"{place} is at {pairs[subset][pair]} already" for pair, place in listed.items() if pair in pairs[subset]]
        pairs[subset] |= listed
    if twice:
        raise DataError.listing(
            f"data.splits_dir={folder}: lists of one folder share entries:",
            twice,
            "fold0.txt lists the classes 1 to 5, fold1.txt 6 to 10, and so on.",
        )
    return pairs


class _PlainUnpickler(pickle._Unpickler):
    """Builds containers, strings and numbers only: nothing in the file can name code to run.

    Nor can it claim memory for more than it holds: Python's reader in C does for a memo's place, both do for a bytearray.
    """

    dispatch: ClassVar = {code: load for code, load in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]}

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
        lists = _PlainUnpickler(io.BytesIO(path.read_bytes())).load()
    except Exception as error:  # a damaged pickle raises almost anything
        raise DataError(f"split list {path} is not a plain pickle: {error}; take the published file") from error
    if not isinstance(lists, dict) or not all(
        isinstance(c, int) and 0 <= c < classes and isinstance(names, list) and all(isinstance(n, str) for n in names)
        for c, names in lists.items()
    ):
        raise DataError(f"split list {path} is not a dict of class 0 to {classes - 1} to names; take the published file")
    return [(name, c) for c, names in lists.items() for name in names]


def by_class(pairs: Iterable[Pair]) -> dict[int, list[str]]:
    """Names of every class, in list order."""
    names: dict[int, list[str]] = {}
    for name, class_id in pairs:
        names.setdefault(class_id, []).append(name)
    return names
