"""LabelMe's JSON, also as X-AnyLabeling and others write it: one image a file; its boxes, lines and points are marks."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image

from mshnet_pl.data.io.images import decoding, image_size, read_image
from mshnet_pl.data.io.marks import INSIDE, OBJECT, Marks
from mshnet_pl.data.io.masks import mark
from mshnet_pl.data.io.outlines import UNREADABLE, ImageFinder, Outlined, Outlines, check_memory, checked
from mshnet_pl.errors import DataError

_BOXES = ("rectangle", "rotation")
_OUTLINES = ("polygon", "quadrilateral")
"""Kinds of shapes that are the area between their points, if these are three or more."""
_STROKES = {"point": 1, "points": 1, "line": 2, "linestrip": 2}
"""Kinds of shapes that are points and strokes, and how many points they have at least."""


def read_labelme(path: Path, document: Mapping[str, Any]) -> Outlines:
    """The shapes of every label together: a mask of polygons, circles and masks; marks where there is any other kind.

    A point or line whose ``flags`` have ``negative`` set is on the background.

    Raises:
        ValueError: there is no image, or one of another size.
    """
    image, width, height = _image(path, document)
    marked: dict[str, Marks] = {}
    problems = []
    drawn = set()
    for number, shape in enumerate(document["shapes"]):
        try:
            label = str(shape["label"])
            if label not in marked:
                check_memory(len(marked) + 1, (len(marked) + 1) * width * height)
                marked[label] = Marks((width, height))
            _draw(marked[label], shape)
            drawn.add(label)
        except (*UNREADABLE, DataError) as error:
            name = shape.get("label") if isinstance(shape, Mapping) else None
            problems.append(f"{path}: shape {number} ({name}): {error}")
    shown = {label: marks.told() for label, marks in marked.items()}
    problems += [
        f"{path}: the shapes of {label} enclose no pixel" for label in shown if label in drawn and not _shows(shown[label])
    ]
    source = image if isinstance(image, Path) else path
    found = [
        Outlined(label, image, shown[label] == OBJECT if marks.is_mask else marks, source)
        for label, marks in marked.items()
        if _shows(shown[label])
    ]
    return Outlines(found, problems)


def _shows(told: np.ndarray) -> bool:
    return bool(((told == OBJECT) | (told == INSIDE)).any())


def _image(path: Path, document: Mapping[str, Any]) -> tuple[Path | Image.Image, int, int]:
    """The image and its width and height: the file, or else the one inside."""
    image: Path | Image.Image
    name = str(document.get("imagePath") or "")
    try:
        try:
            image = ImageFinder(path).find(name)
        except ValueError:
            image = ImageFinder(path).find(PureWindowsPath(name).name)
    except ValueError:
        if not document.get("imageData"):
            raise
        with decoding(io.BytesIO(base64.b64decode(document["imageData"]))) as stored:
            image = read_image(stored)
    width, height = image_size(image)
    said = [document.get(key) for key in ("imageWidth", "imageHeight")]
    if any(number not in (None, own) for number, own in zip(said, (width, height), strict=True)):
        raise ValueError(f"outlined at {said[0]} x {said[1]} pixels, but {name} has {width} x {height}")
    return image, width, height


def _draw(marks: Marks, shape: Mapping[str, Any]) -> None:
    points = checked(shape["points"], *marks.size)
    kind = shape.get("shape_type") or "polygon"
    negative = bool((shape.get("flags") or {}).get("negative"))
    if kind in _STROKES and len(points) >= _STROKES[kind]:
        for stroke in [[point] for point in points] if kind == "points" else [points]:
            marks.scribble(stroke, positive=not negative)
    elif negative:
        raise ValueError(f"a {kind} that is negative; mark the background by points and lines")
    elif kind in _OUTLINES and len(points) > 2:
        marks.polygon(points)
    elif kind in _BOXES and len(points) > 2:
        marks.area(points)
    elif kind == "rectangle" and len(points) == 2:
        (left, upper), (right, lower) = _sorted(points)
        marks.box((left, upper, right, lower))
    elif kind == "circle" and len(points) == 2:
        marks.circle(points[0], math.dist(*points))
    elif kind == "mask":
        with decoding(io.BytesIO(base64.b64decode(shape["mask"]))) as part:
            width, height = marks.size
            if part.width > width or part.height > height:
                raise ValueError(f"a mask of {part.width} x {part.height} pixels in an image of {width} x {height}")
            x, y = _sorted(points)[0]
            marks.mask(mark(part).shown, round(x), round(y))
    else:
        raise ValueError(f"a {kind} of {len(points)} points marks nothing; draw polygons, boxes, lines or points")


def _sorted(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    (x0, x1), (y0, y1) = (sorted(axis) for axis in zip(*points, strict=True))
    return [(x0, y0), (x1, y1)]
