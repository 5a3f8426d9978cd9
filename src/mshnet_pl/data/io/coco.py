"""COCO's instance annotations, as annotation tools export them: any number of images a file."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mshnet_pl.data.io.images import decoding, image_size, turned_mask
from mshnet_pl.data.io.marks import Marks
from mshnet_pl.data.io.outlines import UNREADABLE, ImageFinder, Outlined, Outlines, check_memory


def read_coco(path: Path, document: Mapping[str, Any]) -> Outlines:
    """Polygons and run-length encodings, together by class and image; crowds are problems.

    Boxes without outline are the marks of a class that has no outline in the file; else they are problems.

    Raises:
        ValueError: it is not of COCO's form, or so much that no memory is made for it.
    """
    from mshnet_pl.data.io.rle import encode  # what reads other supports does without pycocotools

    images = {image["id"]: image for image in document["images"]}
    names = {category["id"]: str(category["name"]) for category in document["categories"]}
    files = _Files(path)
    parts: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
    boxed: dict[tuple[Any, Any], dict[str, dict[str, Any]]] = {}
    problems: list[str] = []
    for annotation in document["annotations"]:
        where = _place(path, annotation)
        try:
            image_id, category_id = annotation["image_id"], annotation["category_id"]
            if image_id not in images or category_id not in names:
                raise ValueError("the file has no such image or category")
            file = files.look(images[image_id])
            if (box := _box(annotation)) is not None:
                boxed.setdefault((category_id, image_id), {})[where] = encode([box], file.height, file.width)
                continue
            for encoded in _encoded(annotation, file.height, file.width, problems, where):
                parts.setdefault((category_id, image_id), []).append(encoded)
        except UNREADABLE as error:
            problems.append(f"{where}: {_said(error)}")
    outlined = {category_id for category_id, _ in parts}
    for category_id, image_id in [place for place in boxed if place[0] in outlined]:
        why = f"a box without outline; other annotations of {names[category_id]} have outlines, which are used"
        problems += [f"{where}: {why}" for where in boxed.pop((category_id, image_id))]
    places = sorted(parts.keys() | boxed.keys())
    check_memory(len(places), sum(file.height * file.width for _, i in places for file in [files.look(images[i])]))
    found = []
    for category_id, image_id in places:
        file = files.look(images[image_id])
        boxes = boxed.get((category_id, image_id))
        mask = _united([*boxes.values()] if boxes else parts[category_id, image_id], file)
        if mask.any():
            found.append(Outlined(names[category_id], file.path, _marked(mask) if boxes else mask, file.path))
        else:
            problems.append(f"{path}: image {image_id}: the outlines of {names[category_id]} enclose no pixel")
    return Outlines(found, problems)


def _united(encodings: list[dict[str, Any]], file: "_File") -> np.ndarray:
    """The pixels of all of them in the turned image."""
    from pycocotools import mask as rle_tools

    pixels = rle_tools.decode(rle_tools.merge(encodings)) > 0
    return turned_mask(pixels, file.path) if file.as_stored else np.ascontiguousarray(pixels)


def _marked(boxes: np.ndarray) -> Marks:
    marks = Marks((boxes.shape[1], boxes.shape[0]))
    marks.boxes(boxes)
    return marks


def _box(annotation: Mapping[str, Any]) -> list[float] | None:
    """Corners of the box of an annotation that has nothing else.

    Raises:
        ValueError: it is none.
    """
    if annotation.get("segmentation") or annotation.get("iscrowd", 0) or annotation.get("bbox") is None:
        return None
    x, y, width, height = (float(number) for number in annotation["bbox"])
    if not (width > 0 and height > 0):
        raise ValueError(f"a box of width {width:g} and height {height:g}; give more than 0")
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def _place(path: Path, annotation: Any) -> str:  # noqa: ANN401 - parsed JSON
    if not isinstance(annotation, Mapping):
        return f"{path}: annotation {str(annotation)[:40]}"
    image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
    return f"{path}: annotation {annotation.get('id')} (image {image_id}, category {category_id})"


def _said(error: Exception) -> str:
    return f"no {error.args[0]}" if isinstance(error, KeyError) and error.args else str(error)


def _encoded(
    annotation: Mapping[str, Any], height: int, width: int, problems: list[str], where: str
) -> Iterator[dict[str, Any]]:
    """The annotation's outlines, each alone, so that one that cannot be used does not take the others with it."""
    from mshnet_pl.data.io.rle import encode

    segmentation = annotation["segmentation"] if "bbox" not in annotation else annotation.get("segmentation")
    if annotation.get("iscrowd", 0):
        problems.append(f"{where}: a crowd, which outlines no object")
    elif isinstance(segmentation, Mapping):
        yield encode(segmentation, height, width)
    elif not segmentation:
        problems.append(f"{where}: neither outline nor box")
    else:
        outlines = segmentation if isinstance(segmentation[0], list) else [segmentation]
        for outline in outlines:
            try:
                yield encode([outline], height, width)
            except UNREADABLE as error:
                problems.append(f"{where}: {error}")


class _File(NamedTuple):
    path: Path
    height: int
    width: int
    as_stored: bool
    """The outlines are not turned as the image's EXIF orientation says."""


class _Files:
    """The images' files and sizes, looked up once each."""

    def __init__(self, annotations: Path) -> None:
        self._finder = ImageFinder(annotations)
        self._known: dict[Any, _File | str] = {}

    def look(self, image: Mapping[str, Any]) -> _File:
        if image["id"] not in self._known:
            try:
                self._known[image["id"]] = _fitting(self._finder.find(str(image["file_name"])), image)
            except ValueError as error:
                self._known[image["id"]] = str(error)
        known = self._known[image["id"]]
        if isinstance(known, str):
            raise ValueError(known)
        return known


def _fitting(path: Path, image: Mapping[str, Any]) -> _File:
    turned = image_size(path)
    with decoding(path) as stored:
        own = stored.size
    said = image.get("width", turned[0]), image.get("height", turned[1])
    if said not in (turned, own):
        raise ValueError(f"outlined at {said[0]} x {said[1]} pixels, but {path.name} has {turned[0]} x {turned[1]}")
    width, height = turned if said == turned else own
    return _File(path, height, width, as_stored=said != turned)
