"""What is marked in images: LabelMe's JSON beside an image, COCO's for a whole folder, and a plain JSON of marks."""

import json
from pathlib import Path

from mshnet_pl.data.io.coco import read_coco
from mshnet_pl.data.io.folders import plain
from mshnet_pl.data.io.labelme import read_labelme
from mshnet_pl.data.io.marks_file import read_marks_file
from mshnet_pl.data.io.outlines import ANNOTATION_FOLDERS, UNREADABLE, ImageFinder, Known, Outlines, said
from mshnet_pl.errors import DataError
from mshnet_pl.utils.places import entries


class _OtherFormat(ValueError):
    """JSON that is none of these."""


def annotation_files(root: Path) -> list[Path]:
    """The JSON files of a folder, or of the folder of annotations in it; or ``root``, if that is a file.

    Of COCO's own release only ``instances_*.json`` outline objects once; captions and key points belong to the same images.
    """
    if root.is_file():
        return [root]
    inside = {plain(path.name): path for path in (entries(root) if root.is_dir() else [])}
    for folder in (root, *(inside[name] for name in ANNOTATION_FOLDERS if name in inside)):
        there = entries(folder) if folder.is_dir() else []
        files = [path for path in there if path.suffix.lower() == ".json" and path.name[0] != "."]
        instances = [path for path in files if path.name.startswith("instances_")]
        if files:
            return instances or files
    return []


def read_annotations(path: Path, known: Known | None = None) -> Outlines:
    """What one JSON file outlines, by class and image, and what in it cannot be used.

    Raises:
        DataError: it is neither LabelMe's nor COCO's, or nothing of it can be used; names all places.
    """
    try:
        document = json.loads(path.read_bytes())
        if not isinstance(document, dict):
            raise TypeError(f"a {type(document).__name__} in place of an object")
        if "shapes" in document:
            outlines = read_labelme(path, document, ImageFinder(path, known))
        elif "marks" in document:
            outlines = read_marks_file(path, document, ImageFinder(path, known))
        elif "annotations" in document and "images" in document:
            outlines = read_coco(path, document, ImageFinder(path, known))
        else:
            raise _OtherFormat("neither LabelMe's shapes nor COCO's images and annotations are in it")
    except (*UNREADABLE, RecursionError, DataError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise DataError(f"{path}: it is no text in UTF-8 or UTF-16; save it as UTF-8") from error
        of_form = type(error) in (ValueError, DataError)
        way_out = "mend that, or give other annotations" if of_form else "give JSON of LabelMe or COCO"
        raise DataError(f"{path}: {said(error)}; {way_out}") from error
    if outlines.problems and not outlines.found:
        raise DataError.listing(f"{path}: no outline that can be used:", outlines.problems, "Mend them.")
    return outlines
