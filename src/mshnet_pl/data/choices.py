"""What the configuration chooses of the data, apart from what carries it out: composing needs no PyTorch."""

from enum import StrEnum


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


def augment_problems(crop_scale: float, jitter: float) -> list[str]:
    """What is wrong with the settings of augmentation, each with the way out."""
    found = []
    if not 0 < crop_scale <= 1:
        found.append(f"data.augment.crop_scale={crop_scale}: give a fraction of the area above 0, or 1 for no crop")
    if not 0 <= jitter <= 1:
        found.append(f"data.augment.jitter={jitter}: give a number from 0 (off) to 1")
    return found
