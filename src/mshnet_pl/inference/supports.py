"""The masked images that show what is wanted."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from mshnet_pl.data.io.annotations import read_annotations
from mshnet_pl.data.io.manifest import read_pairs, read_tree
from mshnet_pl.errors import DataError


class Support(NamedTuple):
    """An image, and where it shows the class."""

    image: Path
    mask: Path | np.ndarray


def read_supports(root: Path) -> dict[str, list[Support]]:
    """Supports by class.

    ``root`` is a folder with ``images/*`` and ``masks/*`` of the same stem, whose class is called ``object``; or a folder of
    such folders, each a class; or a folder with images and LabelMe's JSON files; or a COCO JSON file, or its folder.

    Raises:
        DataError: it is none of these, or files in it do not pair off or cannot be read.
    """
    annotations = [root] if root.is_file() else sorted(path for path in root.glob("*.json") if path.name[0] != ".")
    supports: dict[str, list[Support]] = {}
    if (root / "masks").is_dir():
        supports["object"] = [Support(record.image, record.mask) for record in read_pairs(root, [root], "support")]
    elif annotations:
        for name, image, mask in (outlined for path in annotations for outlined in read_annotations(path)):
            supports.setdefault(name, []).append(Support(image, mask))
    else:
        for record in read_tree(root, "support"):
            supports.setdefault(record.class_name, []).append(Support(record.image, record.mask))
    if not any(supports.values()):
        raise DataError(
            f"support={root}: no masked image in it; give images/ and masks/, or images with LabelMe's or COCO's JSON"
        )
    return supports
