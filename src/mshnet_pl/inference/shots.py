"""What ``Segmenter.fit`` is given: a class's name, its images, and their masks or marks."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from mshnet_pl.data.io.images import ImageLike, ImagesLike, as_iterable, bits_of, is_one, name_of, read_image
from mshnet_pl.data.io.marks import BACKGROUND, INSIDE, OBJECT, Marks, read_marks
from mshnet_pl.data.io.masks import doubt, read_marked
from mshnet_pl.data.io.transforms import resize_mask
from mshnet_pl.errors import ConfigError, DataError

log = logging.getLogger(__name__)


class MarkArguments(TypedDict, total=False):
    """Marks of a class, in pixels of the images; for several images a list with an entry an image, None for no such mark.

    Marks of several kinds in an image count together.
    """

    boxes: Any
    """Left, upper, right and lower edge: numbers (4,), or (n, 4) of several boxes."""
    points: Any
    """x and y, and if wanted 1 for the object and 0 for what is not: numbers (2,) or (3,), or (n, 2 or 3)."""
    scribbles: Any
    """Strokes on the object: places (n, 2), a list of such, or the strokes' pixels as booleans (H, W)."""


class MaskOptions(TypedDict, total=False):
    """What may be said of a class that masks show."""

    value: int | None
    """The object's value in masks that are label maps."""
    negative: bool
    """This is what the other classes are not: what looks more like it is background."""
    titles: Sequence[str] | None
    """What messages call the masks; their paths, or their places, where left out."""


class MarkOptions(MarkArguments, total=False):
    """Marks of a class, and what may be said of it."""

    negative: bool
    """As that of ``MaskOptions``."""


def arguments(given: Sequence[Any], named: Mapping[str, Any]) -> tuple[str, Any, Any, dict[str, Any] | None]:
    """The name (``object`` if left out), images, masks, and marks in their place, among the arguments of ``fit``.

    Raises:
        TypeError: they are not these; says of which types they are.
    """
    marks = {key: value for key, value in named.items() if key in MarkArguments.__annotations__}
    plain = {key: value for key, value in named.items() if key not in marks}
    wanted = ["name", "images"] if marks else ["name", "images", "masks"]
    places = wanted[1:] if len(given) + len(plain) < len(wanted) else wanted
    shots = {"name": "object", **dict(zip(places, given, strict=False)), **plain}
    if {*shots} != {*wanted} or len(given) + len(plain) > len(wanted) or not isinstance(shots["name"], str):
        kinds = [type(one).__name__ for one in given] + [f"{key}: {type(one).__name__}" for key, one in named.items()]
        raise TypeError(
            "fit takes images and masks, or a class's name (text), images and masks, or boxes, points and scribbles by name "
            f"in place of masks, not ({', '.join(kinds)})"
        )
    return shots["name"], shots["images"], shots.get("masks"), marks or None


def marks_of(
    name: str, images: ImagesLike, marks: Mapping[str, Any], value: int | None
) -> tuple[list[ImageLike], list[Marks]]:
    """The images, and the marks of each.

    Raises:
        ConfigError: a value, which only masks have.
        DataError: not as many as images, marks of another shape or type, or an image without any on the object.
    """
    if value is not None:
        raise ConfigError(f"value={value} is for masks that are label maps; leave it out with {', '.join(marks)}")
    pictures = [*as_iterable(images, f"{name}: images")]
    by_kind: dict[str, list[Any]] = {}
    for kind, given in marks.items():
        listed = [given] if is_one(images) else given
        if not isinstance(listed, Sequence | np.ndarray | Tensor) or len(listed) != len(pictures):
            count = f"{len(listed)}" if hasattr(listed, "__len__") else type(given).__name__
            raise DataError(f"{name}: {len(pictures)} images and {kind} for {count}; give a list with an entry an image")
        by_kind[kind] = [*listed]
    if not pictures:
        raise DataError(f"{name}: no image; give at least one")
    found = []
    for place, picture in enumerate(pictures):
        boxes, points, scribbles = (
            by_kind.get(kind, [None] * len(pictures))[place] for kind in MarkArguments.__annotations__
        )
        one = read_marks(
            read_image(picture, f"{name}: image {place}").size, boxes, points, scribbles, f"{name}: image {place}"
        )
        if not one.told().any():
            raise DataError(f"{name}: image {place}: nothing marks the object; give a box, a point or a scribble on it")
        found.append(one)
    return pictures, found


def at_size(made: Float[Tensor, "side side"], told: UInt8[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """A mask that was made on the network's square, at the image's size, where marks stay as they are."""
    resized = interpolate(made[None, None].cpu(), told.shape, mode="bilinear", align_corners=False)[0, 0].numpy() > 0.5
    mask = (resized & (told != BACKGROUND)) | (told == OBJECT)
    return mask if mask.any() else told == INSIDE


def read_shots(
    name: str,
    images: ImagesLike,
    masks: ImagesLike,
    value: int | None,
    side: int,
    bits: int,
    titles: Sequence[str] | None = None,
) -> tuple[list[Image.Image], UInt8[Tensor, "shots side side"], int]:
    """A class's images, their masks resized to ``side`` x ``side``, and how deep the images are; logs doubtful masks.

    Args:
        name: the class's.
        images: one or several.
        masks: as many.
        value: the object's value in masks that are label maps.
        side: of the network's images.
        bits: of the scale on which other classes were looked at; 8 for any.
        titles: what messages call the masks.

    Raises:
        DataError: what is no image, whose type it names; not as many masks as images, or none; a file that cannot be read;
            a mask of another size than its image, or one without an object, at ``side`` too; images that are deeper than
            those of other classes.
    """
    pictures, drawn = [*as_iterable(images, f"{name}: images")], [*as_iterable(masks, f"{name}: masks")]
    deepest = max((bits, *map(bits_of, pictures)))
    if 8 < bits < deepest:
        raise DataError(
            f"{name}: images of {deepest} bits, but other classes were fitted on a scale of {bits}; fit the deepest first"
        )
    bits = deepest
    read = [read_image(picture, f"{name}: image {i}", bits=bits) for i, picture in enumerate(pictures)]
    marked = [read_marked(picture, value, f"{name}: mask {i}") for i, picture in enumerate(drawn)]
    shown = [one.shown for one in marked]
    if len(read) != len(shown) or not read:
        raise DataError(f"{name}: {len(read)} images and {len(shown)} masks; give at least one, and a mask for each")
    if titles is not None and len(titles) != len(drawn):
        raise DataError(f"{name}: {len(titles)} titles and {len(drawn)} masks; give one for each, or none")
    called = titles or [name_of(picture, f"{name}: mask {i}") for i, picture in enumerate(drawn)]
    small = torch.stack([_small(*shot, side) for shot in zip(read, shown, called, strict=True)])
    for title, why in zip(called, map(doubt, shown), strict=True):
        if why:
            log.warning("%s: %s", title, why)
    values = {one.drawn_in: title for title, one in zip(called, marked, strict=True) if one.drawn_in}
    if len(values) > 1:
        said = ", ".join(f"{drawn_in} in {title}" for drawn_in, title in values.items())
        log.warning("%s: the object is %s; if these are label maps, give value=VALUE", name, said)
    return read, small, bits


def _small(image: Image.Image, mask: np.ndarray, name: str, side: int) -> UInt8[Tensor, "side side"]:
    height, width = mask.shape
    if (width, height) != image.size:
        way_out = "turn the mask as the image is shown" if (height, width) == image.size else "save it at the image's size"
        raise DataError(f"{name} has {width} x {height} pixels, but its image has {image.width} x {image.height}; {way_out}")
    small = resize_mask(mask.astype(np.uint8), side)
    if not small.any():
        raise DataError(f"{name}: its object vanishes at {side} x {side}; crop both around it")
    return small
