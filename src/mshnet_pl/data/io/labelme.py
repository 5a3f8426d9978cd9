"""LabelMe's JSON, also as X-AnyLabeling and others write it: one image a file."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mshnet_pl.data.io.images import decoding, image_size, read_image
from mshnet_pl.data.io.masks import mark
from mshnet_pl.data.io.outlines import UNREADABLE, ImageFinder, Outlined, Outlines, check_memory, checked
from mshnet_pl.errors import DataError

_AREAS = ("polygon", "rectangle", "rotation", "quadrilateral")
"""Kinds of shapes that are the area between their points, if these are three or more."""


def read_labelme(path: Path, document: Mapping[str, Any]) -> Outlines:
    """Polygons, rectangles of two or four corners, rotated boxes, circles and masks, united by label.

    Raises:
        ValueError: there is no image, or one of another size.
    """
    image, width, height = _image(path, document)
    masks: dict[str, Image.Image] = {}
    problems = []
    drawn = set()
    for number, shape in enumerate(document["shapes"]):
        try:
            label = str(shape["label"])
            if label not in masks:
                check_memory(len(masks) + 1, (len(masks) + 1) * width * height)
                masks[label] = Image.new("L", (width, height))
            _draw(masks[label], shape)
            drawn.add(label)
        except (*UNREADABLE, DataError) as error:
            name = shape.get("label") if isinstance(shape, Mapping) else None
            problems.append(f"{path}: shape {number} ({name}): {error}")
    shown = {label: np.asarray(mask) > 0 for label, mask in masks.items()}
    problems += [
        f"{path}: the shapes of {label} enclose no pixel" for label in shown if label in drawn and not shown[label].any()
    ]
    source = image if isinstance(image, Path) else path
    return Outlines([Outlined(label, image, mask, source) for label, mask in shown.items() if mask.any()], problems)


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


def _draw(mask: Image.Image, shape: Mapping[str, Any]) -> None:
    points = checked(shape["points"], *mask.size)
    kind = shape.get("shape_type") or "polygon"
    draw = ImageDraw.Draw(mask)
    if kind in _AREAS and len(points) > 2:
        draw.polygon(points, fill=1, outline=1)
    elif kind == "rectangle" and len(points) == 2:
        draw.rectangle(_sorted(points), fill=1, outline=1)
    elif kind == "circle" and len(points) == 2:
        (x, y), radius = points[0], math.dist(*points)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1, outline=1)
    elif kind == "mask":
        with decoding(io.BytesIO(base64.b64decode(shape["mask"]))) as part:
            if part.width > mask.width or part.height > mask.height:
                raise ValueError(
                    f"a mask of {part.width} x {part.height} pixels in an image of {mask.width} x {mask.height}"
                )
            x, y = _sorted(points)[0]
            mask.paste(1, (round(x), round(y)), Image.fromarray(mark(part).shown))
    else:
        raise ValueError(f"a {kind} of {len(points)} points has no area; draw polygons, rectangles or circles")


def _sorted(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    (x0, x1), (y0, y1) = (sorted(axis) for axis in zip(*points, strict=True))
    return [(x0, y0), (x1, y1)]
