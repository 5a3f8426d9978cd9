"""Outlines made in annotation tools: LabelMe's JSON beside an image, and COCO's for a whole folder."""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageDraw

from mshnet_pl.errors import DataError

Outlined = tuple[str, Path, Bool[np.ndarray, "height width"]]
"""A class, an image, and where the image shows the class."""

_UNREADABLE = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, OSError, SyntaxError)
"""What code meets in JSON that is not of the expected form."""


def read_annotations(path: Path) -> list[Outlined]:
    """What one JSON file outlines, by class and image.

    LabelMe: polygons, rectangles, circles and masks. COCO: polygons and run-length encodings; crowds are left out.

    Raises:
        DataError: it is neither, or holds something else; names the place.
    """
    try:
        document = json.loads(path.read_bytes())
        if "shapes" in document:
            return _labelme(path.parent, document)
        if "annotations" in document:
            return _coco(path.parent, document)
        raise ValueError("neither LabelMe's shapes nor COCO's annotations are in it")
    except (*_UNREADABLE, RecursionError) as error:
        raise DataError(f"{path}: {type(error).__name__}: {error}; give JSON of LabelMe or COCO") from error


def _labelme(folder: Path, document: Mapping[str, Any]) -> list[Outlined]:
    image = _find(folder, document["imagePath"])
    size = document["imageWidth"], document["imageHeight"]
    masks: dict[str, Image.Image] = {}
    for number, shape in enumerate(document["shapes"]):
        label = str(shape["label"])
        try:
            _draw(masks.setdefault(label, Image.new("L", size)), shape)
        except _UNREADABLE as error:
            raise ValueError(f"shape {number} ({label}): {error}") from error
    return [(label, image, np.asarray(mask) > 0) for label, mask in masks.items()]


def _draw(mask: Image.Image, shape: Mapping[str, Any]) -> None:
    points = [(float(x), float(y)) for x, y in shape["points"]]
    kind = shape.get("shape_type", "polygon")
    draw = ImageDraw.Draw(mask)
    if kind == "polygon" and len(points) > 2:
        draw.polygon(points, fill=1, outline=1)
    elif kind == "rectangle" and len(points) == 2:
        draw.rectangle(_sorted(points), fill=1, outline=1)
    elif kind == "circle" and len(points) == 2:
        (x, y), radius = points[0], math.dist(*points)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1, outline=1)
    elif kind == "mask":
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as part:
            x, y = _sorted(points)[0]
            mask.paste(1, (round(x), round(y)), part.convert("1"))
    else:
        raise ValueError(f"a {kind} of {len(points)} points has no area; draw polygons, rectangles or circles")


def _sorted(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    (x0, x1), (y0, y1) = (sorted(axis) for axis in zip(*points, strict=True))
    return [(x0, y0), (x1, y1)]


def _coco(folder: Path, document: Mapping[str, Any]) -> list[Outlined]:
    from pycocotools import mask as rle_tools  # what reads other supports does without it

    from mshnet_pl.data.io.rle import encode

    images = {image["id"]: image for image in document["images"]}
    names = {category["id"]: str(category["name"]) for category in document["categories"]}
    parts: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for annotation in document["annotations"]:
        if annotation.get("iscrowd", 0):
            continue
        image_id, category_id = annotation["image_id"], annotation["category_id"]
        try:
            image = images[image_id]
            encoded = encode(annotation["segmentation"], image["height"], image["width"])
        except _UNREADABLE as error:
            where = f"annotation {annotation.get('id')} (image {image_id}, category {category_id})"
            raise ValueError(f"{where}: {error}") from error
        parts.setdefault((category_id, image_id), []).append(encoded)
    return [
        (names[category_id], _find(folder, images[image_id]["file_name"]), rle_tools.decode(rle_tools.merge(found)) > 0)
        for (category_id, image_id), found in sorted(parts.items())
    ]


def _find(folder: Path, name: str) -> Path:
    """The image of that relative path, in ``folder`` or in its ``images``; written on whatever system."""
    relative = PureWindowsPath(name).as_posix()
    for path in (folder / relative, folder / "images" / relative):
        if path.is_file():
            return path
    raise ValueError(f"no image {relative} in {folder}")
