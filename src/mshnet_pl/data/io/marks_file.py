"""A plain JSON of marks, for who writes them with a program: points, boxes and scribbles of any number of images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mshnet_pl.data.io.images import image_size
from mshnet_pl.data.io.marks import read_marks
from mshnet_pl.data.io.outlines import UNREADABLE, ImageFinder, Outlined, Outlines
from mshnet_pl.errors import DataError

_KINDS = ("boxes", "points", "scribbles")


def read_marks_file(path: Path, document: Mapping[str, Any]) -> Outlines:
    """``{"marks": [{"image": FILE, "label": CLASS, "points": [[x, y, 1 or 0]], "boxes": [...], "scribbles": [...]}]}``.

    A label is ``object`` where it is left out; of the three kinds at least one is given, as ``read_marks`` takes them, in
    pixels of the image as it is shown.
    """
    finder, found, problems = ImageFinder(path), [], []
    for number, row in enumerate(document["marks"]):
        try:
            if unknown := sorted({*row} - {"image", "label", *_KINDS}):
                raise ValueError(f"{unknown[0]} is none of image, label, {', '.join(_KINDS)}")
            if not any(row.get(kind) for kind in _KINDS):
                raise ValueError(f"it marks nothing; give {', '.join(_KINDS)}")
            image = finder.find(str(row["image"]))
            boxes, points, scribbles = (row.get(kind) for kind in _KINDS)
            marks = read_marks(image_size(image), boxes, points, scribbles, image.name)
            if not marks.told().any():
                raise ValueError("nothing in it is on the object")
            found.append(Outlined(str(row.get("label", "object")), image, marks, image))
        except (*UNREADABLE, DataError) as error:
            said = f"no {error.args[0]}" if isinstance(error, KeyError) and error.args else error
            problems.append(f"{path}: mark {number}: {said}")
    return Outlines(found, problems)
