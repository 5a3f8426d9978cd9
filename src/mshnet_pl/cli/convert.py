"""``mshnet-convert``: a checkpoint of the authors' published implementation as one of this project's."""

import logging
from pathlib import Path
from typing import Any

from mshnet_pl.cli.arguments import REQUIRED, Option, run
from mshnet_pl.cli.entry import entry

OPTIONS = {
    "in": Option("the authors' file; nothing in it is executed", Path, REQUIRED),
    "out": Option("the checkpoint that is written, its model card beside it", Path, REQUIRED),
    "data": Option("what the network was trained on", default="pascal5i", choices=("pascal5i", "coco20i")),
    "fold": Option("whose classes it never saw; the file does not tell", int, low=0, high=3),
    "shot": Option("with how many supports it was trained", int, 1, low=1),
    "overwrite": Option("replace a file that is there", bool, False),
}


@entry
def main() -> None:
    """``mshnet-convert``."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    run("mshnet-convert", "Turn a checkpoint of the authors' published code into one of this project's.", OPTIONS, _convert)


def _convert(values: dict[str, Any]) -> None:
    from mshnet_pl.deploy import convert, output

    path = convert.convert(values.pop("in"), **values)
    print(f"{path}, described in {output.card_path(path)}")
