"""What ``Segmenter.fit`` is given: a class's name, its images and their masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from mshnet_pl.data.io.images import ImagesLike, as_iterable, name_of, read_image, read_mask
from mshnet_pl.data.io.transforms import resize_mask
from mshnet_pl.errors import DataError


def arguments(given: Sequence[Any], named: Mapping[str, Any]) -> tuple[str, Any, Any]:
    """The name (``object`` if left out), images and masks among the arguments of ``fit``.

    Raises:
        TypeError: they are not these; says of which types they are.
    """
    places = ("images", "masks") if len(given) + len(named) < 3 else ("name", "images", "masks")
    shots = {"name": "object", **dict(zip(places, given, strict=False)), **named}
    if {*shots} != {"name", "images", "masks"} or len(given) + len(named) > 3 or not isinstance(shots["name"], str):
        kinds = [type(one).__name__ for one in given] + [f"{key}: {type(one).__name__}" for key, one in named.items()]
        raise TypeError(f"fit takes images and masks, or a class's name (text), images and masks, not ({', '.join(kinds)})")
    return shots["name"], shots["images"], shots["masks"]


def read_shots(
    name: str, images: ImagesLike, masks: ImagesLike, value: int | None, side: int
) -> tuple[list[Image.Image], UInt8[Tensor, "shots side side"]]:
    """A class's images, and their masks resized to ``side`` x ``side``.

    Args:
        name: the class's.
        images: one or several.
        masks: as many.
        value: the object's value in masks that are label maps.
        side: of the network's images.

    Raises:
        DataError: what is no image, whose type it names; not as many masks as images, or none; a file that cannot be read;
            a mask of another size than its image, or one without an object, at ``side`` too.
    """
    pictures, drawn = [*as_iterable(images, f"{name}: images")], [*as_iterable(masks, f"{name}: masks")]
    read = [read_image(picture, f"{name}: image {i}") for i, picture in enumerate(pictures)]
    shown = [read_mask(picture, value, f"{name}: mask {i}") for i, picture in enumerate(drawn)]
    if len(read) != len(shown) or not read:
        raise DataError(f"{name}: {len(read)} images and {len(shown)} masks; give at least one, and a mask for each")
    titles = [name_of(picture, f"{name}: mask {i}") for i, picture in enumerate(drawn)]
    return read, torch.stack([_small(*shot, side) for shot in zip(read, shown, titles, strict=True)])


def _small(image: Image.Image, mask: np.ndarray, name: str, side: int) -> UInt8[Tensor, "side side"]:
    height, width = mask.shape
    if (width, height) != image.size:
        raise DataError(f"{name} has {width} x {height} pixels, but its image has {image.width} x {image.height}")
    small = resize_mask(mask.astype(np.uint8), side)
    if not small.any():
        raise DataError(f"{name}: its object vanishes at {side} x {side}; crop both around it")
    return small
