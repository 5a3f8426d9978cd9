"""``mshnet-prepare``: a data set's folder as its source expects it, and what is lacking for that."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mshnet_pl.arguments import parse
from mshnet_pl.data.prepare_coco import prepare_coco20i
from mshnet_pl.data.prepare_fss import prepare_fss1000
from mshnet_pl.data.prepare_voc import prepare_pascal5i
from mshnet_pl.errors import ConfigError, DataError


def _prepare_folder(root: Path, splits_dir: Path | None, download: bool) -> None:
    print(f"{root}: images of your own are used as they are; there is nothing to prepare")


_PREPARE: Mapping[str, Callable[[Path, Path | None, bool], None]] = {
    "pascal5i": prepare_pascal5i,
    "coco20i": prepare_coco20i,
    "fss1000": prepare_fss1000,
    "folder": _prepare_folder,
}
_SETTINGS = {"data": True, "data.root": True, "data.splits_dir": False}
USAGE = "mshnet-prepare data=NAME data.root=DIR [data.splits_dir=DIR] [--download]"


def prepare(settings: Sequence[str], download: bool = False) -> None:
    """Put the data set of ``data=NAME data.root=DIR [data.splits_dir=DIR]`` in order; a second call changes nothing.

    Args:
        settings: as on the command line.
        download: fetch official archives that are missing.

    Raises:
        ConfigError: a setting that is unknown, missing or impossible.
        DataError: lists what is missing or damaged; everything else is in order then.
    """
    values = _parse(settings)
    root = Path(values["data.root"]).expanduser()
    splits_dir = Path(values["data.splits_dir"]).expanduser() if "data.splits_dir" in values else None
    if not root.is_dir():
        raise DataError(f"data.root={root}: no such folder; make it, and put there what you have of {values['data']}")
    try:
        _PREPARE[values["data"]](root, splits_dir, download)
    except OSError as error:  # a full disk, a folder that may not be written
        raise DataError(f"data.root={root}: {error}; once that is mended, run this again to go on") from error
    print(f"{root} is in order for data={values['data']}")


def _parse(settings: Sequence[str]) -> dict[str, str]:
    values = parse(settings, _SETTINGS, USAGE)
    if values["data"] not in _PREPARE:
        raise ConfigError(f"data={values['data']}: what can be prepared is {', '.join(_PREPARE)}")
    return values
