"""COCO's instance annotations, as annotation tools export them: any number of images a file."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mshnet_pl.data.io.images import image_size
from mshnet_pl.data.io.outlines import UNREADABLE, ImageFinder, Outlined, Outlines, check_memory


def read_coco(path: Path, document: Mapping[str, Any]) -> Outlines:
    """Polygons and run-length encodings, united by class and image; crowds and boxes without outline are problems.

    Raises:
        ValueError: it is not of COCO's form, or so much that no memory is made for it.
    """
    from pycocotools import mask as rle_tools  # what reads other supports does without it

    images = {image["id"]: image for image in document["images"]}
    names = {category["id"]: str(category["name"]) for category in document["categories"]}
    files = _Files(path)
    parts: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
    problems: list[str] = []
    for annotation in document["annotations"]:
        where = _place(path, annotation)
        try:
            image_id, category_id = annotation["image_id"], annotation["category_id"]
            if image_id not in images or category_id not in names:
                raise ValueError("the file has no such image or category")
            size = files.size(images[image_id])
            for encoded in _encoded(annotation, *size, problems, where):
                parts.setdefault((category_id, image_id), []).append(encoded)
        except UNREADABLE as error:
            problems.append(f"{where}: {_said(error)}")
    sizes = [files.size(images[image_id]) for _, image_id in parts]
    check_memory(len(sizes), sum(height * width for height, width in sizes))
    found = []
    for (category_id, image_id), encodings in sorted(parts.items()):
        mask = rle_tools.decode(rle_tools.merge(encodings)) > 0
        if mask.any():
            file = files.path(images[image_id])
            found.append(Outlined(names[category_id], file, np.ascontiguousarray(mask), file))
        else:
            problems.append(f"{path}: image {image_id}: the outlines of {names[category_id]} enclose no pixel")
    return Outlines(found, problems)


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

    segmentation = annotation["segmentation"]
    if annotation.get("iscrowd", 0):
        problems.append(f"{where}: a crowd, which outlines no object")
    elif isinstance(segmentation, Mapping):
        yield encode(segmentation, height, width)
    elif not segmentation:
        problems.append(f"{where}: a box without outline")
    else:
        outlines = segmentation if isinstance(segmentation[0], list) else [segmentation]
        for outline in outlines:
            try:
                yield encode([outline], height, width)
            except UNREADABLE as error:
                problems.append(f"{where}: {error}")


class _Files:
    """The images' files and sizes, looked up once each."""

    def __init__(self, annotations: Path) -> None:
        self._finder = ImageFinder(annotations)
        self._known: dict[Any, tuple[Path, tuple[int, int]] | str] = {}

    def path(self, image: Mapping[str, Any]) -> Path:
        return self._look(image)[0]

    def size(self, image: Mapping[str, Any]) -> tuple[int, int]:
        """Height and width."""
        return self._look(image)[1]

    def _look(self, image: Mapping[str, Any]) -> tuple[Path, tuple[int, int]]:
        if image["id"] not in self._known:
            try:
                file = self._finder.find(str(image["file_name"]))
                self._known[image["id"]] = file, _size(file, image)
            except ValueError as error:
                self._known[image["id"]] = str(error)
        known = self._known[image["id"]]
        if isinstance(known, str):
            raise ValueError(known)
        return known


def _size(file: Path, image: Mapping[str, Any]) -> tuple[int, int]:
    width, height = image_size(file)
    said: Iterable[Any] = (image.get("width"), image.get("height"))
    if any(number not in (None, own) for number, own in zip(said, (width, height), strict=True)):
        raise ValueError(
            f"outlined at {image.get('width')} x {image.get('height')} pixels, but {file.name} has {width} x {height}"
        )
    return height, width
