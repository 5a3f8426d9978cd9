"""A data set's folder as its source expects it, and what is lacking for that."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mshnet_pl.data.io.manifest import read_tree
from mshnet_pl.data.prepare.coco20i import prepare_coco20i
from mshnet_pl.data.prepare.fss1000 import prepare_fss1000
from mshnet_pl.data.prepare.pascal5i import prepare_pascal5i
from mshnet_pl.errors import DataError


def _prepare_folder(root: Path, splits_dir: Path | None, download: bool, any_archive: bool) -> list[str]:
    records = read_tree(root)
    classes = {record.class_name for record in records}
    print(f"{root}: {len(records):,} images with masks of {len(classes):,} classes, which are used as they are")
    return []


PREPARE: Mapping[str, Callable[[Path, Path | None, bool, bool], Sequence[str]]] = {
    "pascal5i": prepare_pascal5i,
    "coco20i": prepare_coco20i,
    "fss1000": prepare_fss1000,
    "folder": _prepare_folder,
}


def prepare(
    data: str, root: Path, splits_dir: Path | None = None, download: bool = False, any_archive: bool = False
) -> None:
    """Put the folder of a data set in order; a second call changes nothing.

    Args:
        data: one of ``PREPARE``.
        root: ``data.root``.
        splits_dir: ``data.splits_dir``.
        download: fetch official archives that are missing; the folder is made where it is missing.
        any_archive: unpack archives that are there, too, if their MD5 is not the published one.

    Raises:
        DataError: lists what is missing or damaged; everything else is in order then.
    """
    try:
        if download and data != "folder" and not root.exists():
            root.mkdir(parents=True)
        if not root.is_dir():
            raise DataError(f"data.root={root}: no such folder; make it, and put there what you have of {data}")
        problems = PREPARE[data](root, splits_dir, download, any_archive)
    except OSError as error:  # a full disk, a folder that may not be written
        raise DataError(f"data.root={root}: {error}; once that is mended, run this again to go on") from error
    if problems:
        raise DataError.listing(
            f"data.root={root}: all is in order except for:", problems,
            "Mend these, or unpack the official archives anew, and run this again.", limit=len(problems),
        )  # fmt: skip
    print(f"{root} is in order for data={data}")
