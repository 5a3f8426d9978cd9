"""``mshnet-predict``: masks, overlays and numbers for a folder of images, from a checkpoint and a few masked images."""

import sys

from mshnet_pl.cli.arguments import fail, log_on_screen, run
from mshnet_pl.cli.entry import entry
from mshnet_pl.config.commands import PredictConfig
from mshnet_pl.errors import DataError, RunFailed
from mshnet_pl.options import ResultFormat


@entry
def main() -> None:
    """``mshnet-predict``: exit code 2 for what cannot work, 1 where some queries could not be read."""
    run("mshnet-predict", PredictConfig, _predict, "mshnet-predict support=mine query=photos out=masks")


def _predict(config: PredictConfig) -> None:
    if config.format == ResultFormat.parquet:
        _in_parts(config)
    else:
        _in_files(config)


def _in_files(job: PredictConfig) -> None:
    from mshnet_pl.runs.predict import predict

    with log_on_screen():
        unreadable = predict(job)
    if unreadable:
        heading = f"{len(unreadable)} queries could not be read:"
        print(DataError.listing(heading, unreadable, "All others are done.", limit=len(unreadable)), file=sys.stderr)
        raise SystemExit(1)


def _in_parts(job: PredictConfig) -> None:
    from mshnet_pl.runs.predict_shards import predict_shards

    with log_on_screen():
        try:
            counts = predict_shards(job)
        except RunFailed as error:
            fail(error, 1)
    if counts.errors:
        print(f"{counts.errors} queries could not be read: their rows have an error. All others are done.", file=sys.stderr)
        raise SystemExit(1)
