"""``mshnet-prepare``: unpack, convert and check a data set; says what is missing."""

from pathlib import Path
from typing import Any

from mshnet_pl.cli.arguments import REQUIRED, Option, run
from mshnet_pl.cli.entry import entry

OPTIONS = {
    "data": Option("which data set: pascal5i, coco20i, fss1000 or folder", default=REQUIRED),
    "data.root": Option("its folder", Path, REQUIRED),
    "data.splits_dir": Option("the folder with the published split lists, to compare with or to use", Path),
}
FLAGS = ("--download: fetch official archives that are missing",)


@entry
def main() -> None:
    """``mshnet-prepare``."""
    run("mshnet-prepare", "Unpack, convert and check a data set; says what is missing.", OPTIONS, _prepare, FLAGS)


def _prepare(values: dict[str, Any]) -> None:
    from mshnet_pl.data.prepare.prepare import prepare

    prepare(values["data"], values["data.root"], values["data.splits_dir"], values["download"])
