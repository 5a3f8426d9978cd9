"""Predictions as label tools read them: COCO's JSON for all images together, LabelMe's for each."""

import base64
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Integer
from PIL import Image
from scipy.ndimage import find_objects, label


class Part(NamedTuple):
    """A predicted object, or a connected part of it."""

    class_name: str
    left: int
    upper: int
    mask: Bool[np.ndarray, "h w"]
    """Its pixels, cut to its box."""
    score: float
    """Mean foreground probability of its pixels."""

    @property
    def box(self) -> list[int]:
        """Left and upper edge, width and height, as COCO has them."""
        return [self.left, self.upper, self.mask.shape[1], self.mask.shape[0]]

    @property
    def area(self) -> int:
        """Its pixels."""
        return int(self.mask.sum())

    def counts(self, width: int, height: int) -> str:
        """COCO's compressed run lengths of the mask in an image of that size."""
        from pycocotools import mask as rle_tools  # what writes other files does without it

        columns, rows = np.nonzero(
            np.diff(np.pad(self.mask.T.astype(np.int8), ((0, 0), (1, 1))))
        )  # where runs begin and end
        edges = (self.left + columns) * height + self.upper + rows
        same = np.diff(edges, prepend=-1, append=-1) == 0  # a run that goes on at the top of the next column
        edges = edges[~(same[1:] | same[:-1])]
        runs = np.diff(edges, prepend=0, append=width * height)
        stored = {"size": [height, width], "counts": runs[: len(runs) - (runs[-1] == 0)].tolist()}
        return str(rle_tools.frPyObjects(stored, height, width)["counts"].decode())


def parts(
    labels: Integer[np.ndarray, "height width"],
    classes: Sequence[str],
    probabilities: Float[np.ndarray, "way height width"],
    instances: bool,
) -> list[Part]:
    """What is predicted in an image: an object a class, or with ``instances`` each of its connected parts.

    Args:
        labels: 0 for background, 1 to N for the classes.
        classes: their names.
        probabilities: foreground probability of every class.
        instances: take pixels that touch at sides or corners for an object of their own.
    """
    found = []
    for number, (name, probability) in enumerate(zip(classes, probabilities, strict=True), start=1):
        for left, upper, mask in _objects(labels == number, instances):
            height, width = mask.shape
            inside = probability[upper : upper + height, left : left + width][mask]
            found.append(Part(name, left, upper, mask, float(inside.mean(dtype=np.float64))))
    return found


def _objects(inside: Bool[np.ndarray, "height width"], connected: bool) -> Iterator[tuple[int, int, np.ndarray]]:
    """Left and upper edge of each object, and its mask, cut to its box."""
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    if not len(rows):
        return
    left, upper = int(columns[0]), int(rows[0])
    whole = inside[upper : rows[-1] + 1, left : columns[-1] + 1]
    if not connected:
        yield left, upper, whole
        return
    numbered = label(whole, np.ones((3, 3)))[0]
    for number, place in enumerate(find_objects(numbered), start=1):
        yield left + place[1].start, upper + place[0].start, numbered[place] == number


class CocoFile:
    """Collects predictions for one COCO JSON: run-length encodings, boxes and scores.

    Args:
        path: where it will be written; images are named from its folder on.
        classes: names; in the file they have the numbers 1 to N.
    """

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self._path = path
        self._numbers = {name: number for number, name in enumerate(classes, start=1)}
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, image: Path, width: int, height: int, found: Sequence[Part]) -> None:
        """The predictions of one image."""
        number = len(self._images) + 1
        self._images.append({"id": number, "file_name": _from(self._path, image), "width": width, "height": height})
        for part in found:
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": number,
                    "category_id": self._numbers[part.class_name],
                    "segmentation": {"size": [height, width], "counts": part.counts(width, height)},
                    "area": part.area,
                    "bbox": part.box,
                    "iscrowd": 0,
                    "score": part.score,
                }
            )

    def content(self) -> bytes:
        """The file."""
        categories = [{"id": number, "name": name} for name, number in self._numbers.items()]
        document = {"images": self._images, "annotations": self._annotations, "categories": categories}
        return f"{json.dumps(document)}\n".encode()


def labelme(path: Path, image: Path, width: int, height: int, found: Sequence[Part]) -> bytes:
    """LabelMe's JSON of one image's predictions, each a shape of the kind ``mask``; ``path`` is where it will lie."""
    shapes: list[dict[str, Any]] = [
        {
            "label": part.class_name,
            "shape_type": "mask",
            "points": [[part.left, part.upper], [part.left + part.box[2] - 1, part.upper + part.box[3] - 1]],
            "mask": _png(part.mask),
            "description": f"score {part.score:.3f}",
            "group_id": None,
            "flags": {},
        }
        for part in found
    ]
    document: Mapping[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": _from(path, image),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    return f"{json.dumps(document, indent=1)}\n".encode()


def _png(mask: Bool[np.ndarray, "h w"]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _from(file: Path, image: Path) -> str:
    """An image's place, seen from the folder of a file that names it."""
    return Path(os.path.relpath(image.resolve(), file.parent.resolve())).as_posix()
