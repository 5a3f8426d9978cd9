"""Putting FSS-1000 in order: a folder a class with ten images and ten masks."""

from pathlib import Path

from mshnet_pl.data.io.images import is_image
from mshnet_pl.data.protocol.split_lists import read_classes
from mshnet_pl.errors import DataError

_IMAGES = 10
_CLASSES = 1000


def prepare_fss1000(root: Path, splits_dir: Path | None, download: bool, any_archive: bool) -> list[str]:
    """See that every class has its ten images and masks, and that every class of the lists is there.

    Returns:
        Every class, image or mask that is missing or no image.

    Raises:
        DataError: there is no class.
    """
    folder = root / "fewshot_data" if (root / "fewshot_data").is_dir() else root
    names = [f"{number}.{suffix}" for number in range(1, _IMAGES + 1) for suffix in ("jpg", "png")]
    classes = sorted(path for path in folder.iterdir() if any((path / name).is_file() for name in names))
    if not classes:
        raise DataError(
            f"data.root={root}: no folder CLASS/1.jpg in it; https://github.com/HKUSTCV/FSS-1000 says where the archive is: "
            f"unpack it so that there is {root / 'CLASS' / '1.jpg'} or {root / 'fewshot_data' / 'CLASS' / '1.jpg'}"
            + ("; download=true cannot fetch it" if download else "")
        )
    problems = [
        f"{path / name}: {'no image' if (path / name).is_file() else 'no such file'}"
        for path in classes
        for name in names
        if not is_image(path / name)
    ]
    known = {path.name for path in classes}
    for path in () if splits_dir is None else [splits_dir / f"{subset}.txt" for subset in ("trn", "val", "test")]:
        try:
            listed = read_classes(path)
        except DataError as error:
            problems.append(str(error))
            continue
        problems += [f"{folder / name}: no such class, but {path} names it" for name in listed if name not in known]
    print(f"{len(classes):,} of {_CLASSES:,} classes")
    return problems
