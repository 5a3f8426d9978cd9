"""LabelMe's JSON, also as X-AnyLabeling and others write it: one image a file; its boxes, lines and points are marks."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

from PIL import Image

from mshnet_pl.data.io.images import Frame, decoding, frame_of, read_image
from mshnet_pl.data.io.marks import OBJECT, Marks
from mshnet_pl.data.io.masks import mark
from mshnet_pl.data.io.outlines import UNREADABLE, ImageFinder, Outlined, Outlines, check_memory, checked, is_as_stored, said
from mshnet_pl.errors import DataError
from mshnet_pl.utils.places import whole_name

_BOXES = ("rectangle", "rotation", "oriented_rectangle")
_OUTLINES = ("polygon", "quadrilateral")
"""Kinds of shapes that are the area between their points, if these are three or more."""
_STROKES = {"point": 1, "points": 1, "line": 2, "linestrip": 2}
"""Kinds of shapes that are points and strokes, and how many points they have at least."""


def read_labelme(path: Path, document: Mapping[str, Any], finder: ImageFinder) -> Outlines:
    """The shapes of every label together: a mask of polygons, circles and masks; marks where there is any other kind.

    A point or line whose ``flags`` have ``negative`` set is on the background.

    Raises:
        ValueError: there is no image, or one of another size.
    """
    image, frame, as_stored = _image(document, finder)
    width, height = frame.stored if as_stored else frame.turned
    problems = []
    drawn: dict[str, Marks] = {}
    for number, shape in enumerate(document["shapes"]):
        try:
            label = whole_name(shape["label"])
            count = len(drawn) + (label not in drawn)
            check_memory(count, count * width * height)
            alone = Marks((width, height))
            _draw(alone, shape)
            if alone.is_empty:
                raise ValueError("it marks no pixel of the image")
            drawn.setdefault(label, Marks((width, height))).add(alone)
        except (*UNREADABLE, DataError) as error:
            name = shape.get("label") if isinstance(shape, Mapping) else None
            problems.append(f"{path}: shape {number} ({name}): {said(error)}")
    source = image if isinstance(image, Path) else path
    found = []
    for label, marks in drawn.items():
        turned = marks.turned(frame.turn) if as_stored else marks
        mask = turned.told() == OBJECT if turned.is_mask else turned
        found.append(Outlined(label, image, mask, source, str(document.get("imagePath") or "")))
    return Outlines(found, problems)


def _image(document: Mapping[str, Any], finder: ImageFinder) -> tuple[Path | Image.Image, Frame, bool]:
    """The image, its frame, and whether it is outlined as it is stored: the file, or else the one inside."""
    image: Path | Image.Image
    name = str(document.get("imagePath") or "")
    try:
        try:
            image = finder.find(name)
        except ValueError:
            image = finder.find(PureWindowsPath(name).name)
    except ValueError:
        if not document.get("imageData"):
            raise
        with decoding(io.BytesIO(base64.b64decode(document["imageData"]))) as stored:
            frame, image = frame_of(stored), read_image(stored)
    else:
        frame = frame_of(image)
    return image, frame, is_as_stored([document.get(key) for key in ("imageWidth", "imageHeight")], frame, name)


def _draw(marks: Marks, shape: Mapping[str, Any]) -> None:
    points = checked(shape["points"], *marks.size)
    kind = shape.get("shape_type") or "polygon"
    flags = shape.get("flags") or {}
    if not isinstance(flags, Mapping):
        raise ValueError(f'flags {str(flags)[:40]}; give {{"negative": true}}, or none')
    said = {key.lower(): value for key, value in flags.items()}.get("negative", False)
    if said not in (None, True, False):
        raise ValueError(f"the flag negative is {str(said)[:40]!r}; give true or false")
    negative = bool(said)
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
