"""What settings choose between and which values some may have; free of PyTorch, so that composing needs none."""

import math
from collections.abc import Sequence
from enum import StrEnum
from numbers import Integral

DEFAULT_NETWORK = "training-free"
"""The network of the package that is used where none is named."""
UNKNOWN = 255
"""Label of pixels whose class is not known."""
MIN_SIDE, MAX_SIDE = 32, 4096
"""Of an image, in pixels, that a network can take, and that fits into a machine's memory."""


EVERY_FOLD = "all"
"""In the place of a fold's number: every class is trained, or tested with a network that other data trained."""


class NovelPixels(StrEnum):
    """What happens to training images that hold a novel class."""

    drop = "drop"
    keep = "keep"
    ignore = "ignore"


class ValClasses(StrEnum):
    """Whose episodes choose the best checkpoint."""

    novel = "novel"
    base_heldout = "base_heldout"


class Protocol(StrEnum):
    """How test episodes are drawn."""

    published = "published"
    seeded = "seeded"


class BadFiles(StrEnum):
    """What happens to images whose files are missing, damaged or not what they should be."""

    error = "error"
    """The run ends; the message names them."""
    skip = "skip"
    """Episodes with such an image are drawn anew; the result names the images."""


class Resolution(StrEnum):
    """At which size a prediction is scored."""

    resized = "resized"
    original = "original"


class Fusion(StrEnum):
    """How K supports become one prediction."""

    network = "network"
    """As the method itself does it."""
    mean = "mean"
    """Each shot predicts alone; the mean of their logits."""
    vote = "vote"
    """Each shot predicts alone; their foreground votes, divided by the most that a pixel got, decide (HSNet)."""


class Control(StrEnum):
    """What the supports of a control episode show."""

    own = "own"
    """The query's class, as in any episode."""
    other_class = "other_class"
    """A class that the query does not show."""
    which_of_two = "which_of_two"
    """One of two classes that the query shows."""


class SupportKind(StrEnum):
    """What of a support's mask a test shows the method; a mask is then made of it (``inference.completion``)."""

    mask = "mask"
    box = "box"
    """The boxes around the mask's connected parts."""
    largest_box = "largest_box"
    """The box around the largest of them."""
    scribble = "scribble"
    """A stroke at random inside the mask's largest part."""
    point = "point"
    """A point at random inside the mask."""


class ResultFormat(StrEnum):
    """How predictions are written."""

    png = "png"
    """Masks and overlays alone; the next two write these, too, and a file for label tools."""
    coco = "coco"
    labelme = "labelme"
    parquet = "parquet"
    """Tables in parts instead of files a picture, by several workers, resumed where they were."""


class LossGrid(StrEnum):
    """Where logits and the query's mask meet in the loss of training."""

    logits = "logits"
    """On the logits' own grid (intermediate ones: on half of it); the mask is resized to it."""
    image = "image"
    """At the mask's size; logits are upsampled to it."""


class Criterion(StrEnum):
    """What compares logits with a mask."""

    cross_entropy = "cross_entropy"
    dice = "dice"
    """1 - Dice of the sigmoids of background and foreground (CyCTR)."""


class Which(StrEnum):
    """Which checkpoint of a training run is tested."""

    best = "best"
    last = "last"


class NonFinite(StrEnum):
    """What happens at a training step whose loss or gradient is not finite."""

    stop = "stop"
    """The run ends, and keeps what repeats the step."""
    skip = "skip"
    """The step is left out and counted; 20 in a row end the run."""


class Work(StrEnum):
    """What is timed."""

    forward = "forward"
    """Images to logits, without a graph."""
    train = "train"
    """A training step: forward, loss, backward, optimizer."""
    test = "test"
    """A whole test with its data set, images read and all."""


class Precision(StrEnum):
    """As Lightning's ``trainer.precision``."""

    fp32 = "32-true"
    bf16 = "bf16-mixed"


class Subset(StrEnum):
    """Images for training, and images for validation and test."""

    TRAIN = "trn"
    VAL = "val"


class Published(StrEnum):
    """Data sets that the authors trained on."""

    pascal5i = "pascal5i"
    coco20i = "coco20i"


class Preparable(StrEnum):
    """Data sets that can be put in order."""

    pascal5i = "pascal5i"
    coco20i = "coco20i"
    fss1000 = "fss1000"
    folder = "folder"


class Exported(StrEnum):
    """What a network is exported as."""

    onnx = "onnx"
    torch_export = "torch_export"


class Printed(StrEnum):
    """How a report's tables are printed."""

    table = "table"
    markdown = "markdown"
    latex = "latex"
    csv = "csv"


def scale_problems(name: str, scales: Sequence[float], image_size: int) -> list[str]:
    """What cannot work about factors of the images' side that predictions are averaged over."""
    if not scales:
        return [f"{name}=[]: give at least one, 1.0 for the images' own size"]
    return [
        f"{name}={scale}: give numbers of at least {MIN_SIDE / image_size:.2f}, for images of {MIN_SIDE} pixels or more"
        f"{'' if math.isfinite(scale) and scale * image_size < MIN_SIDE else f', and at most {MAX_SIDE}'}"
        for scale in scales
        if not math.isfinite(scale) or not MIN_SIDE <= round(scale * image_size) <= MAX_SIDE
    ]


def zoom_problems(name: str, zooms: Sequence[float]) -> list[str]:
    """What cannot work about how much larger than its object a part of a support is."""
    return [
        f"{name}={zoom}: give numbers from 1, for the object's box, to 10, such as 1.5, or none"
        for zoom in zooms
        if not 1 <= zoom <= 10
    ]


def guided_problems(name: str, radius: float, image_size: int) -> list[str]:
    """What cannot work about a guided filter's ``radius``, a share of the images' side."""
    if radius == 0 or (0 < radius <= 0.5 and round(radius * image_size) >= 1):
        return []
    least = math.ceil(500 / image_size) / 1000
    return [f"{name}={radius}: give 0 for no filter, or its radius as a share of the side, {least} to 0.5"]


def segmenter_problems(image_size: int, batch_size: int, guided: float, scales: Sequence[float]) -> list[str]:
    """What cannot work about a ``Segmenter``'s numbers."""
    counts = ("image_size", image_size, MIN_SIDE, MAX_SIDE), ("batch_size", batch_size, 1, math.inf)
    found = [
        f"{name}={value}: give a whole number of at least {least}" + (f" and at most {most}" if most < math.inf else "")
        for name, value, least, most in counts
        if not isinstance(value, Integral) or isinstance(value, bool) or not least <= value <= most
    ]
    return found or guided_problems("guided", guided, image_size) + scale_problems("scales", scales, image_size)
