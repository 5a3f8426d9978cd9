"""``mshnet-convert``: a checkpoint of the authors' published implementation as one of this project's."""

import logging

from mshnet_pl.cli.arguments import run
from mshnet_pl.cli.entry import entry
from mshnet_pl.config.commands import ConvertConfig


@entry
def main() -> None:
    """``mshnet-convert``."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    run("mshnet-convert", ConvertConfig, _convert, "mshnet-convert in=best_model.pt out=mshnet.ckpt fold=0")


def _convert(config: ConvertConfig) -> None:
    from mshnet_pl.deploy import convert, output

    path = convert.convert(config)
    print(f"{path}, described in {output.card_path(path)}")
