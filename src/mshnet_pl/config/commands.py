"""The settings of the commands that compose no configuration. ``docs/settings.md`` and ``--help`` are made from them."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from mshnet_pl.config.settings import setting
from mshnet_pl.options import (
    DEFAULT_NETWORK,
    MAX_SIDE,
    MIN_SIDE,
    Exported,
    Fusion,
    Precision,
    Preparable,
    Printed,
    Published,
    ResultFormat,
)

_CKPT = (
    "Network: training-free, a checkpoint of mshnet-train, a folder of save_pretrained, or owner/name of the Hugging Face "
    "hub."
)
_DEVICE = "Such as cpu or cuda:1; null for CUDA where there is one."
_OVERWRITE = "Replace what is there."


@dataclass
class AppConfig:
    """Serve a web page: paint an object in one picture, have it outlined in others."""

    ckpt: str = setting(DEFAULT_NETWORK, _CKPT)
    port: int = setting(7860, "Port of the page.", min=1, max=65535)
    host: str = setting("127.0.0.1", "Address to listen at.")
    hosts: str | None = setting(
        None, "Further names under which browsers reach the page, such as a proxy's; separated by commas."
    )
    max_upload_mb: int = setting(20, "Largest file that a visitor may upload, in MiB.", min=1, max=1000)
    max_sessions: int = setting(16, "Visitors at a time.", min=1, max=1000)
    idle_minutes: float = setting(30.0, "Minutes without a click after which a session ends.", min=1, max=1440)
    device: str | None = setting(None, _DEVICE)
    share: bool = setting(False, "Offer the page at a public address too, by way of gradio.live.")


@dataclass
class ConvertConfig:
    """Turn a checkpoint of the authors' published code into one of this package."""

    source: Path = setting(MISSING, "The authors' file; nothing in it is executed.", name="in")
    out: Path = setting(MISSING, "Checkpoint that is written, its model card beside it.")
    data: Published = setting(Published.pascal5i, "Data set that the network was trained on.")
    fold: int | None = setting(
        None, "Fold whose classes the network never saw; null where nobody knows: the file does not tell.", min=0, max=3
    )
    shot: int = setting(1, "Supports of an episode in its training.", min=1)
    overwrite: bool = setting(False, _OVERWRITE)


@dataclass
class ExportConfig:
    """Write a network as ONNX or as a torch.export archive, which runs without this package."""

    ckpt: str = setting(DEFAULT_NETWORK, _CKPT)
    format: Exported = setting(MISSING, "What is written.")
    out: Path = setting(MISSING, "File that is written, its model card beside it.")
    image_size: int | None = setting(None, "Side of the images in pixels; null leaves it free.", min=MIN_SIDE, max=MAX_SIDE)
    shots: int | None = setting(None, "Number of supports; null leaves it free.", min=1)
    overwrite: bool = setting(False, _OVERWRITE)


@dataclass
class PredictConfig:
    """Segment images, given a few images with masks of the object."""

    ckpt: str = setting(DEFAULT_NETWORK, _CKPT)
    support: Path = setting(
        MISSING,
        "Images with masks: a folder with images/ and masks/, a folder of such (a class each), LabelMe or COCO JSON; or "
        "boxes, scribbles and points in JSON; or a file of Segmenter.save_support.",
    )
    negative: Path | None = setting(
        None, "Images with masks or marks of what it is not, as in support: what looks more like them is background."
    )
    query: str = setting(
        MISSING,
        "Images to segment: a folder, a file, a pattern in quotes, or a list: .txt with a path a line, .csv or .parquet "
        "with a column path.",
    )
    out: Path = setting(MISSING, "Folder of the results.")
    threshold: float = setting(0.5, "Foreground probability from which on a pixel is the object's.")
    flip: bool | None = setting(None, "Average over the mirrored images too; null for the network's own setting.")
    scales: list[float] | None = setting(
        None, "Average over images resized by these factors, such as [0.75,1]; null for the network's own setting."
    )
    fusion: Fusion | None = setting(None, "How several supports become one prediction; null for the network's own setting.")
    guided: float | None = setting(
        None, "Radius of the guided filter as a share of the side, 0 for none; null for the network's own setting."
    )
    zooms: list[float] | None = setting(
        None,
        "Show every support once more for each of these multiples of its object's size, such as [1.2,2], [] for none; null "
        "for the network's own setting.",
    )
    tile: int | None = setting(None, "Cut larger images into overlapping squares of that many pixels; null for none.")
    value: int | None = setting(None, "The object's pixel value where masks are label maps; null for masks of one object.")
    bits: int | None = setting(
        None, "Depth of 10- to 16-bit images, which have one scale; null for the depth that holds all of them."
    )
    batch_size: int = setting(8, "Images that go through the network at a time.")
    device: str | None = setting(None, _DEVICE)
    overwrite: bool = setting(False, _OVERWRITE)
    format: ResultFormat = setting(
        ResultFormat.png,
        "Masks and overlays as PNG; for label tools also COCO or LabelMe JSON; for very many images Parquet.",
    )
    instances: bool = setting(False, "Take every connected part of a mask for an object of its own.")
    min_presence: float = setting(0.82, "Presence score from which on a class counts as found.", min=0, max=1)
    precision: Precision = setting(Precision.fp32, "Compute in float32, or in bfloat16 where that is safe.")
    workers: str = setting(
        "local:1", "Who does the parts of format=parquet: local:N, ray, ray:N, or slurm for a task of an array job."
    )
    threads: int = setting(1, "Threads of a worker of format=parquet.", min=1)
    gpus_per_worker: float = setting(0.0, "GPUs that Ray sets aside for a worker; a share of one is possible.", min=0)
    shard_size: int = setting(1000, "Files a part of format=parquet.", min=1, max=100_000)
    masks: bool = setting(False, "With format=parquet, write masks as PNG too.")


@dataclass
class PrepareConfig:
    """Unpack, convert and check a data set; say what is missing."""

    data: Preparable = setting(MISSING, "Data set to prepare.")
    root: Path = setting(MISSING, "The data set's folder.", name="data.root")
    splits_dir: Path | None = setting(
        None, "Folder with the published split lists, to compare with or to use; null for none.", name="data.splits_dir"
    )
    download: bool = setting(False, "Fetch official archives that are missing.")
    any_archive: bool = setting(False, "Unpack archives that are there, too, if their MD5 is not the published one.")


@dataclass
class ReportConfig:
    """Collect all results below folders into the paper's tables, a page and pictures of episodes."""

    folder: list[Path] = setting(MISSING, "Folders with results, searched at any depth; folder= may be left out.")
    format: Printed | None = setting(
        None, "Print the tables in this format and write no file; null: as table on a terminal, else as markdown, and files."
    )
    html: Path | None = setting(None, "File of the page; null for report.html in the first folder.")
    pictures: Path | None = setting(None, "Folder for the pictures episodes_Kshot.png; null for the first folder.")
    episodes: int = setting(1, "Best, median and worst episodes shown of each test, as many of each.", min=0)
    masks_only: bool = setting(False, "Draw episodes without their photographs.")
    classes: bool = setting(False, "Print the IoU of every class, too, as markdown.")


@dataclass
class CompareConfig:
    """Compare two runs, or two sets of them, on the same episodes by a paired permutation test."""

    a: Path = setting(MISSING, "Folder with one result, or with the same folds as b; a= and b= may be left out.")
    b: Path = setting(MISSING, "Folder of the runs to compare with.")
    weights: str | None = setting(
        None, "Which weights are compared: best, last, untrained, ...; needed where a folder holds several."
    )
    shot: int | None = setting(None, "Number of shots of the test; needed where a folder holds several.", min=1)


@dataclass
class PowerConfig(CompareConfig):
    """Say how many images, episodes and trainings a difference between two runs needs to be seen."""

    points: list[float] = setting([1.0, 2.0, 5.0], "Differences of mIoU, in percent.")
    lists: Path | None = setting(
        None, "Folder with the lists fold0.txt ... of PASCAL-5i's images to test on; null for the images of the runs."
    )


COMMANDS: dict[str, type] = {
    "mshnet-report": ReportConfig,
    "mshnet-report compare": CompareConfig,
    "mshnet-report power": PowerConfig,
    "mshnet-predict": PredictConfig,
    "mshnet-app": AppConfig,
    "mshnet-prepare": PrepareConfig,
    "mshnet-convert": ConvertConfig,
    "mshnet-export": ExportConfig,
}
"""The settings of each, by its name."""
