"""``mshnet-predict``: masks, overlays and numbers for a folder of images, from a checkpoint and a few masked images."""

import sys
from typing import TYPE_CHECKING

from mshnet_pl.cli.arguments import fail, log_on_screen, run
from mshnet_pl.cli.entry import entry
from mshnet_pl.config.commands import PredictConfig
from mshnet_pl.errors import DataError, RunFailed
from mshnet_pl.options import ResultFormat

if TYPE_CHECKING:
    from mshnet_pl.runs.prediction import PredictionJob


@entry
def main() -> None:
    """``mshnet-predict``: exit code 2 for what cannot work, 1 where some queries could not be read."""
    run("mshnet-predict", PredictConfig, _predict, "mshnet-predict support=mine query=photos out=masks")


def _predict(config: PredictConfig) -> None:
    from mshnet_pl.runs.prediction import PredictionJob

    job = PredictionJob(**vars(config))
    if config.format == ResultFormat.parquet:
        _in_parts(job)
    else:
        _in_files(job)


def _in_files(job: "PredictionJob") -> None:
    from mshnet_pl.runs.predict import predict

    with log_on_screen():
        unreadable = predict(job)
    if unreadable:
        heading = f"{len(unreadable)} queries could not be read:"
        print(DataError.listing(heading, unreadable, "All others are done.", limit=len(unreadable)), file=sys.stderr)
        raise SystemExit(1)


def _in_parts(job: "PredictionJob") -> None:
    from mshnet_pl.runs.predict_shards import predict_shards

    with log_on_screen():
        try:
            counts = predict_shards(job)
        except RunFailed as error:
            fail(error, 1)
    if counts.errors:
        print(f"{counts.errors} queries could not be read: their rows have an error. All others are done.", file=sys.stderr)
        raise SystemExit(1)
