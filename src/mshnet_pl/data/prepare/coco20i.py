"""Putting COCO-20i in order: COCO's images and instance annotations, of 2014 or of 2017."""

import json
from collections.abc import Iterator
from pathlib import Path

from mshnet_pl.data.prepare.releases import Archive, obtain
from mshnet_pl.errors import DataError

_HOST = "http://images.cocodataset.org"
_CLASSES = 80
_SIZES = {"train2014": "13 GB", "val2014": "6 GB", "train2017": "18 GB", "val2017": "1 GB"}


def coco_archives(year: int) -> list[Archive]:
    """The official archives of a year's release."""
    images = [f"{part}{year}" for part in ("train", "val")]
    return [
        Archive(
            name=f"COCO {year} annotations",
            address=f"{_HOST}/annotations/annotations_trainval{year}.zip",
            size="241 MB",
            landmarks=tuple(f"annotations/instances_{name}.json" for name in images),
            wanted=("annotations/instances_",),
        ),
        *(
            Archive(f"COCO {name}", f"{_HOST}/zips/{name}.zip", _SIZES[name], landmarks=(name,), wanted=(f"{name}/",))
            for name in images
        ),
    ]


def prepare_coco20i(root: Path, splits_dir: Path | None, download: bool, any_archive: bool) -> list[str]:
    """Unpack, and see that every image that the annotations describe is there.

    The release of 2014, which the published lists name, unless the folder only has parts of that of 2017.

    Returns:
        Every image that is missing, and annotations that cannot be used.

    Raises:
        DataError: lists every archive that is missing or damaged.
    """
    year = 2017 if _has_parts(root, 2017) and not _has_parts(root, 2014) else 2014
    if year == 2017 and splits_dir is not None:
        raise DataError(
            f"data.splits_dir={splits_dir}: the published lists name the images of COCO 2014, but data.root={root} "
            "has those of 2017; fetch the release of 2014, or leave data.splits_dir out"
        )
    obtain(root, coco_archives(year), download, any_archive)
    return [problem for part in ("train", "val") for problem in _check(root, f"{part}{year}")]


def _has_parts(root: Path, year: int) -> bool:
    archives = coco_archives(year)
    return any(archive.path(root).is_file() or len(archive.lacks(root)) < len(archive.landmarks) for archive in archives)


def _check(root: Path, part: str) -> Iterator[str]:
    path = root / "annotations" / f"instances_{part}.json"
    try:
        content = json.loads(path.read_bytes())
        names = [str(image["file_name"]) for image in content["images"]]
        classes, objects = len(content["categories"]), len(content["annotations"])
    except (ValueError, KeyError, TypeError) as error:
        yield f"{path}: no instance annotations of COCO ({type(error).__name__}: {error})"
        return
    if classes != _CLASSES:
        yield f"{path}: {classes} categories, but COCO has {_CLASSES}"
    here = {entry.name for entry in (root / part).iterdir()}
    yield from (f"{root / part / name}: no such file, but {path} names it" for name in names if name not in here)
    print(f"{part}: {len(names):,} images, {objects:,} objects, {classes} classes")
