"""``mshnet-predict``: masks, overlays and numbers for a folder of images, from a checkpoint and a few masked images."""

import sys
from pathlib import Path
from typing import Any

from mshnet_pl.cli.arguments import CKPT, REQUIRED, Option, log_on_screen, run
from mshnet_pl.cli.entry import entry
from mshnet_pl.errors import DataError
from mshnet_pl.options import Fusion, ResultFormat

OPTIONS = {
    "ckpt": CKPT,
    "support": Option(
        "masked images: images/ and masks/, classes of such, LabelMe or COCO JSON; or boxes, scribbles, points in JSON",
        Path,
        REQUIRED,
    ),
    "query": Option("what is segmented: a folder, a file, or a pattern in quotes", default=REQUIRED),
    "out": Option("folder of the results", Path, REQUIRED),
    "threshold": Option("foreground probability from which on a pixel is the object's", float, 0.5),
    "flip": Option("average over the mirrored images too; this and the next three: the checkpoint's own if left out", bool),
    "scales": Option("average over images resized by these factors, such as 0.75,1", list),
    "fusion": Option("how several supports become one prediction", choices=[*Fusion]),
    "guided": Option("radius of the guided filter as a share of the side, 0 for none", float),
    "tile": Option("cut larger images into overlapping squares of that many pixels", int),
    "value": Option("the object's pixel value, where masks are label maps", int),
    "bits": Option("depth of 10- to 16-bit images, which have one scale; what holds all of them if left out", int),
    "batch_size": Option("images that go through the network at a time", int, 8),
    "device": Option("such as cpu or cuda:1; CUDA where there is one, if left out"),
    "overwrite": Option("replace results that are there", bool, False),
    "format": Option(
        "masks and overlays as PNG, and for label tools COCO or LabelMe JSON", str, "png", choices=[*ResultFormat]
    ),
    "instances": Option("take every connected part of a mask for an object of its own", bool, False),
    "min_presence": Option("presence score from which on a class counts as found", float, 0.82, low=0, high=1),
}


@entry
def main() -> None:
    """``mshnet-predict``: exit code 2 for what cannot work, 1 where some queries could not be read."""
    run("mshnet-predict", "Outline in images what masks outline in a few others.", OPTIONS, _predict)


def _predict(values: dict[str, Any]) -> None:
    from mshnet_pl.runs.predict import PredictionJob, predict

    with log_on_screen():
        unreadable = predict(PredictionJob(**values))
    if unreadable:
        heading = f"{len(unreadable)} queries could not be read:"
        print(DataError.listing(heading, unreadable, "All others are done.", limit=len(unreadable)), file=sys.stderr)
        raise SystemExit(1)
