"""``mshnet-predict``: masks, overlays and numbers for a folder of images, from a checkpoint and a few masked images."""

import sys

from mshnet_pl.cli.arguments import log_on_screen, run
from mshnet_pl.cli.entry import entry
from mshnet_pl.config.commands import PredictConfig
from mshnet_pl.errors import DataError


@entry
def main() -> None:
    """``mshnet-predict``: exit code 2 for what cannot work, 1 where some queries could not be read."""
    run("mshnet-predict", PredictConfig, _predict, "mshnet-predict support=mine query=photos out=masks")


def _predict(config: PredictConfig) -> None:
    from mshnet_pl.runs.predict import PredictionJob, predict

    with log_on_screen():
        unreadable = predict(PredictionJob(**vars(config)))
    if unreadable:
        heading = f"{len(unreadable)} queries could not be read:"
        print(DataError.listing(heading, unreadable, "All others are done.", limit=len(unreadable)), file=sys.stderr)
        raise SystemExit(1)
