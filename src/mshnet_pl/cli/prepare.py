"""``mshnet-prepare``: unpack, convert and check a data set; says what is missing."""

from mshnet_pl.cli.arguments import run
from mshnet_pl.cli.entry import entry
from mshnet_pl.config.commands import PrepareConfig


@entry
def main() -> None:
    """``mshnet-prepare``."""
    run("mshnet-prepare", PrepareConfig, _prepare, "mshnet-prepare data=pascal5i data.root=VOC2012 download=true")


def _prepare(config: PrepareConfig) -> None:
    from mshnet_pl.data.prepare.prepare import prepare

    prepare(**vars(config))
