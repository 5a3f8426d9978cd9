"""A plain JSON of marks, for who writes them with a program: points, boxes and scribbles of any number of images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mshnet_pl.data.io.images import frame_of
from mshnet_pl.data.io.marks import Marks, read_marks
from mshnet_pl.data.io.outlines import UNREADABLE, ImageFinder, Outlined, Outlines, said
from mshnet_pl.errors import DataError
from mshnet_pl.utils.places import whole_name

_KINDS = ("boxes", "points", "scribbles")


def read_marks_file(path: Path, document: Mapping[str, Any], finder: ImageFinder) -> Outlines:
    """``{"marks": [{"image": FILE, "label": CLASS, "points": [[x, y, 1 or 0]], "boxes": [...], "scribbles": [...]}]}``.

    A label is ``object`` where it is left out; of the three kinds at least one is given, as ``read_marks`` takes them, in
    pixels of the image as it is shown. What several say of one class in one image is taken together.
    """
    marked: dict[tuple[str, Path, str], Marks] = {}
    problems: list[str] = []
    if not isinstance(document["marks"], list):
        raise TypeError(f"marks is a {type(document['marks']).__name__} in place of a list")
    for number, row in enumerate(document["marks"]):
        try:
            if not isinstance(row, Mapping):
                raise TypeError(f"a {type(row).__name__} in place of an object")
            if unknown := sorted({*row} - {"image", "label", *_KINDS}):
                raise ValueError(f"{unknown[0]} is none of image, label, {', '.join(_KINDS)}")
            if not any(row.get(kind) for kind in _KINDS):
                raise ValueError(f"it marks nothing; give {', '.join(_KINDS)}")
            image = finder.find(str(row["image"]))
            boxes, points, scribbles = (row.get(kind) for kind in _KINDS)
            marks = read_marks(frame_of(image).turned, boxes, points, scribbles, image.name)
            key = whole_name(row.get("label", "object")), image, str(row["image"])
            marked.setdefault(key, Marks(marks.size)).add(marks)
        except (*UNREADABLE, DataError) as error:
            problems.append(f"{path}: mark {number}: {said(error)}")
    found = [Outlined(label, image, marks, image, name) for (label, image, name), marks in marked.items()]
    return Outlines(found, problems)
