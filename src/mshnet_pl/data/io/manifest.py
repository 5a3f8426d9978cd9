"""One's own images: which files belong together, from folders or from a manifest."""

import csv
import io
import json
import logging
import os
import re
from collections.abc import Iterable, Mapping
from math import isfinite
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

from mshnet_pl.data.io.folders import is_system, list_images, passed_over_lines, plain
from mshnet_pl.data.io.tables import read_rows
from mshnet_pl.errors import DataError
from mshnet_pl.utils.places import entries, whole_name, written_place
from mshnet_pl.utils.text import read_text

log = logging.getLogger(__name__)

_NEEDED = ("image", "mask", "class")
_OPTIONAL = ("split", "value")
_SPLITS = ("train", "val")
_MASK_ENDS = ("_mask", "-mask", "_masks", "_seg", "_segmentation", "_label", "_gt", "_matte")
"""What tools add to an image's name for its mask."""


class Record(NamedTuple):
    """An image, and the mask of one class in it."""

    name: str
    """The image's path relative to the root or to the manifest."""
    image: Path
    mask: Path
    class_name: str
    value: int | None = None
    """The object's pixel value in the mask; None in a binary mask."""
    split: str | None = None
    """``train`` or ``val``; None where nothing says so."""


def read_tree(root: Path, setting: str = "data.root", passed_over: dict[Path, str] | None = None) -> list[Record]:
    """Records of ``root/CLASS/images/*`` with ``root/CLASS/masks/*`` of the same stem.

    Args:
        root: folder of the classes' folders.
        setting: what messages call it.
        passed_over: takes the files that are no images, with the reason; else the log does.

    Raises:
        DataError: there is no class, one whose name is no text, a folder is missing, or an image and a mask do not pair off.
    """
    if not root.is_dir():
        raise DataError(f"{setting}={root}: no such folder; give the folder that holds CLASS/images and CLASS/masks")
    folders = [path for path in entries(root) if path.is_dir() and not is_system(path)]
    try:
        named = {folder.name: whole_name(folder.name) for folder in folders}
    except ValueError as error:
        raise DataError(f"{setting}={root}: {error}") from error
    found = read_pairs(root, folders, setting, passed_over)
    records = [record._replace(class_name=named[record.class_name]) for record in found]
    if not records:
        raise DataError(f"{setting}={root}: no CLASS/images and CLASS/masks in it; give the folder of the classes' folders")
    return records


def read_pairs(
    root: Path, folders: Iterable[Path], setting: str, passed_over: dict[Path, str] | None = None
) -> list[Record]:
    """Records of ``images/*`` with ``masks/*`` of the same stem in every one of ``folders``, each a class of its name.

    Raises:
        DataError: a folder is missing, or an image and a mask do not pair off.
    """
    records, problems = [], []
    others: dict[Path, str] = {} if passed_over is None else passed_over
    for folder in folders:
        places = {part: part_of(folder, part) for part in ("images", "masks")}
        gone = [part for part, place in places.items() if place is None]
        if gone:
            problems.append(f"{folder}: no folder {' and no folder '.join(gone)}")
            continue
        images, masks = (_by_stem(place, others) for place in places.values() if place is not None)
        if not images and not masks:
            others[folder] = "no image and no mask in it"
        _rename(masks, images)
        for stem in sorted({*images, *masks}):
            found = images.get(stem, []), masks.get(stem, [])
            if len(found[0]) == len(found[1]) == 1:
                image, mask = found[0][0], found[1][0]
                records.append(Record(image.relative_to(root).as_posix(), image, mask, folder.name))
            else:
                problems.append(f"{folder}: {stem} has {len(found[0])} images and {len(found[1])} masks")
    if problems:
        raise DataError.listing(
            f"{setting}={root}: files that do not pair off:", problems, "Every image needs one mask of the same stem."
        )
    for line in passed_over_lines(others) if passed_over is None else []:
        log.warning("%s", line)
    return records


def part_of(folder: Path, name: str) -> Path | None:
    """The folder of that name in another one, also in capitals; None where there is none."""
    if (folder / name).is_dir():
        return folder / name
    there = entries(folder) if folder.is_dir() else []
    return next((path for path in there if plain(path.name) == name and path.is_dir()), None)


def _rename(masks: dict[str, list[Path]], images: Mapping[str, list[Path]]) -> None:
    """Give masks whose stem no image has that of the one image without mask which differs in spelling or a usual end."""
    lonely: dict[str, list[str]] = {}
    for stem in images:
        if stem not in masks:
            lonely.setdefault(plain(stem), []).append(stem)
    for stem in [stem for stem in masks if stem not in images]:
        for end in ("", *_MASK_ENDS):
            match = lonely.get(plain(stem).removesuffix(end), []) if plain(stem).endswith(end) else []
            if len(match) == 1:
                masks.setdefault(match[0], []).extend(masks.pop(stem))
                break


def _by_stem(folder: Path, passed_over: dict[Path, str]) -> dict[str, list[Path]]:
    stems: dict[str, list[Path]] = {}
    listing = list_images(entries(folder))
    passed_over |= listing.passed_over
    for path in listing.images:
        stems.setdefault(path.stem, []).append(path)
    return stems


def read_manifest(path: Path) -> list[Record]:
    """Records of a CSV file with a header, or of a JSON list of objects.

    ``image`` and ``mask`` are paths relative to the manifest, ``class`` is any name. Optional: ``split`` (``train``, or
    ``val`` for validation and test) and ``value`` (the object's pixel value where the mask is a label map).

    A CSV may be as spreadsheets write it: in UTF-8 or UTF-16, with commas, semicolons, tabs or bars between its cells,
    column names in capitals, empty columns and rows. Paths may have the backslashes of Windows.

    Raises:
        DataError: the file cannot be read, or lists every entry that is incomplete or contradicts another.
    """
    if not path.is_file():
        raise DataError(f"data.source.manifest={path}: no such file; give a CSV or JSON file")
    records, problems = [], []
    for place, row in _rows(path):
        try:
            records.append(_record(path.parent, row))
        except ValueError as error:
            problems.append(f"{path}:{place}: {error}")
    if problems:
        raise DataError.listing("manifest entries that cannot be used:", problems, "Mend these entries.")
    if not records:
        raise DataError(f"data.source.manifest={path} is empty; list image, mask and class")
    _refuse_contradictions(path, records)
    return records


def _rows(path: Path) -> Iterable[tuple[int, Any]]:
    text = read_text(path)
    try:
        if path.suffix.lower() != ".json":
            return list(read_rows(lambda: io.StringIO(text, newline=""), _NEEDED, _OPTIONAL))
        rows = json.loads(text)
    except (ValueError, RecursionError, csv.Error) as error:
        raise DataError(f"data.source.manifest={path} cannot be read: {error}; give a CSV or JSON file") from error
    if not isinstance(rows, list):
        raise DataError(f"data.source.manifest={path}: give a list of objects with {', '.join(_NEEDED)}")
    return enumerate(rows, start=1)


def _record(folder: Path, row: Any) -> Record:  # noqa: ANN401 - what a manifest holds
    if not isinstance(row, Mapping):
        raise ValueError(f"{row!r} is no object with {', '.join(_NEEDED)}")
    odd = [f"{key} {value!r}" for key, value in row.items() if not _is_cell(value)]
    if odd:
        raise ValueError(f"{', '.join(odd)}; give texts and numbers")
    filled = {str(key).strip().lower(): _text(value) for key, value in row.items() if value not in (None, "")}
    lacking = [key for key in _NEEDED if not filled.get(key)]
    strange = [f"unknown column {key!r}" if key else f"{filled[key]!r} in a column without a name"
               for key in filled if key not in (*_NEEDED, *_OPTIONAL)]  # fmt: skip
    if lacking or strange:
        problems = [f"no {key}" for key in lacking] + strange
        raise ValueError(f"{', '.join(problems)}; there are {', '.join((*_NEEDED, *_OPTIONAL))}")
    split, value = filled.get("split"), filled.get("value")
    if split is not None and split.lower() not in _SPLITS:
        raise ValueError(f"split {split!r}; give {' or '.join(_SPLITS)}")
    if value is not None and not re.fullmatch(r"[0-9]{1,9}([.,]0{1,2})?", value):
        raise ValueError(f"value {value!r}; give the object's pixel value, a whole number")
    image, mask = (_path(folder, filled[key]) for key in ("image", "mask"))
    return Record(
        name=os.path.relpath(image, folder),
        image=image,
        mask=mask,
        class_name=whole_name(filled["class"]),
        value=None if value is None else int(re.split("[.,]", value)[0]),
        split=None if split is None else split.lower(),
    )


def _is_cell(value: object) -> bool:
    if isinstance(value, float):
        return isfinite(value)
    return isinstance(value, str | int | None) and not isinstance(value, bool)


def _text(value: str | int | float) -> str:
    """A cell as a CSV has it; a whole number without point."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def _path(folder: Path, text: str) -> Path:
    """A path as it stands there, or with the backslashes of Windows.

    Raises:
        ValueError: it is a place of another computer, or none at all.
    """
    if os.name == "posix" and PureWindowsPath(text).drive and not os.path.exists(folder / text):
        raise ValueError(f"{text} is a path of Windows; give it relative to the manifest")
    found = written_place(folder, text)
    try:
        os.fsencode(text)
        found.is_file()  # what is missing is named together with what is damaged
    except OSError as error:
        raise ValueError(f"{text}: {error.strerror}") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"{text!a} is no name that a file can have; mend it") from error
    return found


def _refuse_contradictions(path: Path, records: list[Record]) -> None:
    first: dict[str, Record] = {}
    seen: set[tuple[str, str]] = set()
    spellings: dict[str, str] = {}
    problems = []
    for record in records:
        same = first.setdefault(os.path.realpath(record.image), record)
        if same.split != record.split:
            link = "" if same.name == record.name else f", by {same.name}, which is the same file"
            problems.append(f"{record.name}: split {same.split} and split {record.split}{link}")
        if (record.name, record.class_name) in seen:
            problems.append(f"{record.name}: listed twice for {record.class_name}")
        seen.add((record.name, record.class_name))
        if (other := spellings.setdefault(record.class_name.casefold(), record.class_name)) != record.class_name:
            problems.append(f"{record.name}: class {record.class_name!r}, elsewhere {other!r}: spell it one way")
    without = [record.name for record in records if record.split is None]
    if without and len(without) < len(records):
        problems.append(f"{len(without)} entries without a split, such as {without[0]}: give all of them one, or none")
    if problems:
        raise DataError.listing(f"{path}: entries that contradict each other:", problems, "Mend these entries.")
