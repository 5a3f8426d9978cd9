"""COCO's instance annotations, as annotation tools export them: any number of images a file."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mshnet_pl.data.io.images import Frame, frame_of
from mshnet_pl.data.io.marks import Marks
from mshnet_pl.data.io.outlines import UNREADABLE, ImageFinder, Outlined, Outlines, check_memory, is_as_stored, said
from mshnet_pl.utils.places import whole_name

_Rows = dict[Any, dict[str, Mapping[str, Any]]]
"""Images or categories by id, and those of one id by name."""


def read_coco(path: Path, document: Mapping[str, Any], finder: ImageFinder) -> Outlines:
    """Polygons and run-length encodings, together by class and image; crowds are problems.

    Boxes without outline are the marks of a class that has no outline in the file; else they are problems.

    Raises:
        ValueError: it is not of COCO's form, or so much that no memory is made for it.
    """
    from pycocotools import mask as rle_tools  # what reads other supports does without it

    from mshnet_pl.data.io.rle import encode

    images, categories = _by_id(document["images"], _image_name), _by_id(document["categories"], lambda row: row.get("name"))
    files, shown = _Files(finder), dict[Any, _File]()
    parts: dict[tuple[str, Any], list[dict[str, Any]]] = {}
    boxed: dict[tuple[str, Any], dict[str, dict[str, Any]]] = {}
    problems: list[str] = []
    for annotation in document["annotations"]:
        where = _place(path, annotation)
        try:
            image, category = _only(images, annotation, "image"), _only(categories, annotation, "category")
            key = whole_name(category["name"]), _id(image["id"])
            file = shown[key[1]] = files.look(image)
            width, height = file.size
            if (box := _box(annotation)) is not None:
                boxed.setdefault(key, {})[where] = encode([box], height, width)
                continue
            for encoded in _encoded(annotation, height, width, problems, where):
                if rle_tools.area(encoded):
                    parts.setdefault(key, []).append(encoded)
                else:
                    problems.append(f"{where}: an outline without a pixel in the image")
        except UNREADABLE as error:
            problems.append(f"{where}: {said(error)}")
    outlined = {name for name, _ in parts}
    for name, image_id in [key for key in boxed if key[0] in outlined]:
        why = f"a box without outline; other annotations of {name} have outlines, which are used"
        problems += [f"{where}: {why}" for where in boxed.pop((name, image_id))]
    classes = {name: number for number, name in enumerate(name for named in categories.values() for name in named)}
    order = {image_id: number for number, image_id in enumerate(images)}
    places = sorted([*parts, *boxed], key=lambda key: (classes[key[0]], order[key[1]]))
    check_memory(len(places), sum(prod(shown[image_id].size) for _, image_id in places))
    found = []
    for name, image_id in places:
        file, boxes = shown[image_id], boxed.get((name, image_id))
        mask = _united([*boxes.values()] if boxes else parts[name, image_id], file)
        found.append(Outlined(name, file.path, _marked(mask) if boxes else mask, file.path, file.written))
    return Outlines(found, problems)


def _by_id(rows: Iterable[Mapping[str, Any]], name: Callable[[Mapping[str, Any]], object]) -> _Rows:
    found: _Rows = {}
    for row in rows:
        found.setdefault(_id(row["id"]), {}).setdefault(str(name(row)), row)
    return found


def _image_name(image: Mapping[str, Any]) -> str:
    """With the size, if the file tells it, by which outlines are read."""
    size = f" ({image['width']} x {image.get('height')})" if "width" in image else ""
    return f"{image.get('file_name')}{size}"


def _id(number: Any) -> Any:  # noqa: ANN401 - parsed JSON
    """An id as all of a file's are compared: some tools write a number as text."""
    return int(number) if isinstance(number, str) and re.fullmatch("0|[1-9][0-9]{0,17}", number) else number


def _only(rows: _Rows, annotation: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The image or category of an annotation.

    Raises:
        ValueError: there is none, or several are called by its id.
    """
    number = annotation[f"{kind}_id"]
    found = rows.get(_id(number))
    if found is None:
        raise ValueError("the file has no such image or category")
    if len(found) > 1:
        raise ValueError(f"{kind} {number} is {' and '.join([*found][:2])}; give each an id of its own")
    (row,) = found.values()
    return row


def _united(encodings: list[dict[str, Any]], file: "_File") -> np.ndarray:
    """The pixels of all of them in the turned image."""
    from pycocotools import mask as rle_tools

    pixels = rle_tools.decode(rle_tools.merge(encodings)) > 0
    return file.frame.turn(pixels) if file.as_stored else np.ascontiguousarray(pixels)


def _marked(boxes: np.ndarray) -> Marks:
    marks = Marks((boxes.shape[1], boxes.shape[0]))
    marks.boxes(boxes)
    return marks


def _box(annotation: Mapping[str, Any]) -> list[float] | None:
    """Corners of the box of an annotation that has nothing else.

    Raises:
        ValueError: it is none.
    """
    from mshnet_pl.data.io.rle import is_crowd

    if _outline(annotation) or is_crowd(annotation) or not annotation.get("bbox"):
        return None
    if len(annotation["bbox"]) != 4:
        raise ValueError(f"a box of {len(annotation['bbox'])} numbers; give left and upper edge, width and height")
    x, y, width, height = (float(number) for number in annotation["bbox"])
    if not (width > 0 and height > 0):
        raise ValueError(f"a box of width {width:g} and height {height:g}; give more than 0")
    return [x, y, x + width, y, x + width, y + height, x, y + height]


def _outline(annotation: Mapping[str, Any]) -> Any:  # noqa: ANN401 - parsed JSON
    """The segmentation, or nothing for one of empty lists; without a box there has to be one."""
    found = annotation.get("segmentation") if "bbox" in annotation else annotation["segmentation"]
    return None if isinstance(found, list) and all(part == [] for part in found) else found


def _place(path: Path, annotation: Any) -> str:  # noqa: ANN401 - parsed JSON
    if not isinstance(annotation, Mapping):
        return f"{path}: annotation {str(annotation)[:40]}"
    image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
    return f"{path}: annotation {annotation.get('id')} (image {image_id}, category {category_id})"


def _encoded(
    annotation: Mapping[str, Any], height: int, width: int, problems: list[str], where: str
) -> Iterator[dict[str, Any]]:
    """The annotation's outlines, each alone, so that one that cannot be used does not take the others with it."""
    from mshnet_pl.data.io.rle import encode, is_crowd

    segmentation = _outline(annotation)
    if is_crowd(annotation):
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
    frame: Frame
    as_stored: bool
    """The outlines are not turned as the image's EXIF orientation says."""
    written: str
    """Its name in the annotation file."""

    @property
    def size(self) -> tuple[int, int]:
        return self.frame.stored if self.as_stored else self.frame.turned


class _Files:
    """The images' files and sizes, looked up once each."""

    def __init__(self, finder: ImageFinder) -> None:
        self._finder = finder
        self._known: dict[Any, _File | str] = {}

    def look(self, image: Mapping[str, Any]) -> _File:
        number = _id(image["id"])
        if number not in self._known:
            try:
                self._known[number] = _fitting(self._finder.find(str(image["file_name"])), image)
            except ValueError as error:
                self._known[number] = str(error)
        known = self._known[number]
        if isinstance(known, str):
            raise ValueError(known)
        return known


def _fitting(path: Path, image: Mapping[str, Any]) -> _File:
    frame = frame_of(path)
    as_stored = is_as_stored([image.get("width"), image.get("height")], frame, path.name)
    return _File(path, frame, as_stored, str(image["file_name"]))
