"""The masked images that show what is wanted."""

import logging
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from mshnet_pl.data.io.annotations import annotation_files, read_annotations
from mshnet_pl.data.io.folders import is_system, list_images
from mshnet_pl.data.io.images import is_image
from mshnet_pl.data.io.manifest import part_of, read_pairs, read_tree
from mshnet_pl.data.io.marks import Marks
from mshnet_pl.data.io.outlines import Known, Outlined, is_of_another, united
from mshnet_pl.errors import DataError
from mshnet_pl.utils.places import entries, given_place, spelt_alike

log = logging.getLogger(__name__)


class Support(NamedTuple):
    """An image, and where it shows the class."""

    image: Path | Image.Image
    """A file, or what an annotation file holds itself."""
    mask: Path | np.ndarray | Marks
    """Marks where a mask is still to be made."""
    file: Path
    """The image's, or the annotation file that holds it."""


class Supports(NamedTuple):
    """Supports by class, what is not used, files with the reason and annotations by their place, and what it is not."""

    classes: dict[str, list[Support]]
    passed_over: dict[Path, str]
    left_out: list[str]
    negatives: dict[str, list[Support]]

    @property
    def shown(self) -> dict[str, list[Support]]:
        """Classes, and what they are not."""
        return {**self.classes, **self.negatives}


def read_supports(root: Path, negative: Path | None = None) -> Supports:
    """Supports by class, and negative ones as ``not CLASS``, each read from a place of its own.

    A place is a folder with ``images/*`` and ``masks/*`` of the same stem, whose class is called ``object``; or a folder of
    such folders, each a class; or a folder with images and LabelMe's JSON files; or a COCO JSON file, its folder or that of
    an export.

    Raises:
        DataError: it is none of these, or files in it do not pair off or cannot be read; lists all that is wrong.
    """
    supports = _read(root, "support")
    if negative is not None:
        others = _read(negative, "negative")
        if same := {f"not {name}" for name in others.classes} & {*supports.classes}:
            raise DataError(
                f"negative={negative}: support has classes called {', '.join(sorted(same))} already; rename them"
            )
        supports.negatives.update((f"not {name}", shown) for name, shown in others.classes.items())
        supports.passed_over.update(others.passed_over)
        supports.left_out.extend(others.left_out)
    return supports


_FORMS = "give a folder with images/ and masks/, one of such folders, or images with LabelMe's or COCO's JSON"


def _read(root: Path, setting: str) -> Supports:
    supports, root = Supports({}, {}, [], {}), given_place(root, setting)
    if not root.exists() or is_image(root):
        raise DataError(f"{setting}={root}: {'a picture' if root.exists() else 'no such file or folder'}; {_FORMS}")
    annotations, in_classes = annotation_files(root), _has_class_folders(root)
    if part_of(root, "masks") or (part_of(root, "images") and not annotations and not in_classes):
        for record in read_pairs(root, [root], setting, supports.passed_over):
            supports.classes.setdefault("object", []).append(Support(record.image, record.mask, record.image))
    elif annotations and not in_classes:
        _take_outlines(root, annotations, supports)
    elif any(place.is_dir() and not is_system(place) for place in entries(root)):
        supports.passed_over.update(dict.fromkeys(annotations, "not read, for there are folders of classes beside it"))
        for record in read_tree(root, setting, supports.passed_over):
            supports.classes.setdefault(record.class_name, []).append(Support(record.image, record.mask, record.image))
    if alike := spelt_alike(supports.classes):
        log.warning("%s=%s: classes that differ in capitals alone: %s", setting, root, ", ".join(alike))
    if not any(supports.classes.values()):
        raise DataError(f"{setting}={root}: no masked image in it; {_FORMS}")
    return supports


def _has_class_folders(root: Path) -> bool:
    return root.is_dir() and any(part_of(place, "images") and part_of(place, "masks") for place in entries(root))


def _take_outlines(root: Path, annotations: list[Path], supports: Supports) -> None:
    problems = []
    by_image: dict[str, list[Outlined]] = {}
    known: Known = {}
    for path in annotations:
        try:
            found, left_out = read_annotations(path, known)
        except DataError as error:
            problems.append(str(error))
            continue
        supports.left_out.extend(left_out)
        for one in found:
            by_image.setdefault(os.path.realpath(one.source), []).append(one)
    outlined: dict[tuple[str, str], list[Outlined]] = {}
    for source, shown in by_image.items():
        for one in shown:
            if is_of_another(one, shown):
                problems.append(f"{one.source}: {one.label} is outlined in {one.written}, which is not there; put it there")
            else:
                outlined.setdefault((one.label, source), []).append(one)
    for label, image, mask, file, _ in map(united, outlined.values()):
        if mask.shows_object() if isinstance(mask, Marks) else mask.any():
            supports.classes.setdefault(label, []).append(Support(image, mask, file))
        else:
            problems.append(f"{file}: what marks {label} in it shows no pixel of it")
    if problems and not supports.classes:
        raise DataError("\n".join(problems))
    supports.left_out.extend(problems)
    if root.is_dir():
        used = {support.file for shown in supports.classes.values() for support in shown} | {*annotations}
        there = [path for path in entries(root) if not (path.is_dir() or path in used or is_system(path))]
        listing = list_images(there)
        supports.passed_over.update(dict.fromkeys(listing.images, "no outline in it") | listing.passed_over)
