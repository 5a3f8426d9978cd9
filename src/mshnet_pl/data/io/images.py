"""Images and masks as people have them: files, Pillow images, arrays or tensors, of 8 or 16 bits or floating point."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageOps
from torch import Tensor

from mshnet_pl.errors import DataError

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor
"""A path, a Pillow image, an array (H, W) or (H, W, C), or a tensor (H, W) or (C, H, W)."""
ImagesLike = ImageLike | Iterable[ImageLike]
"""One, or several."""

_BITS = 8, 10, 12, 14, 16
"""How deep cameras and microscopes sample."""


def is_one(images: ImagesLike) -> bool:
    """Whether that is one image, not several."""
    return isinstance(images, str | os.PathLike | Image.Image | np.ndarray | Tensor)


def as_iterable(images: ImagesLike, name: str = "images") -> Iterable[ImageLike]:
    """One image as a list of one.

    Raises:
        DataError: it is none, or while iterating, one of several is none; names its type.
    """
    if is_one(images):
        return [images]  # type: ignore[list-item]
    if not isinstance(images, Iterable) or isinstance(images, Mapping | bytes):
        raise DataError(f"{name}: of type {type(images).__name__}; give {_KINDS}, or several of these")
    return (_image(image, f"{name}: number {i}") for i, image in enumerate(images))


_KINDS = "a path, a Pillow image, an array or a tensor"


def _image(image: ImageLike, name: str) -> ImageLike:
    if not is_one(image):
        raise DataError(f"{name} is of type {type(image).__name__}; give {_KINDS}")
    return image


def name_of(image: ImageLike, otherwise: str) -> str:
    """What a message calls an image: its path, if it is one."""
    return str(image) if isinstance(image, str | os.PathLike) else otherwise


def read_image(image: ImageLike, name: str = "image", turn: bool = True) -> Image.Image:
    """The RGB image, without its alpha channel.

    Integers of more than 8 bits are scaled from the smallest of 8, 10, 12, 14 and 16 bits that holds the largest value.
    Floating-point values are brightnesses from 0 to 1.

    Args:
        image: gray, coloured or with a palette, with or without alpha; a file of one page.
        name: what messages call it; a path's is the path.
        turn: as the EXIF orientation says, which is what people see who outline objects. Without it, pixels stay where they
            are stored: the benchmarks' masks were made for these.

    Raises:
        DataError: it cannot be read, or is no image; says which.
    """
    if isinstance(image, str | os.PathLike):
        image, name = open_image(Path(image).expanduser()), str(image)
    if isinstance(image, Image.Image):
        try:
            image = ImageOps.exif_transpose(image) if turn else image
            if not image.mode.startswith(("I", "F")):
                return image.convert("RGBA" if image.mode == "P" else "RGB").convert("RGB")
        except Exception as error:  # as open_image
            raise DataError(f"{name}: {error}") from error
    pixels = _array(image)
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.ndim not in (2, 3) or channels not in (1, 2, 3, 4) or not pixels.size:
        raise DataError(f"{name}: shape {pixels.shape}; give (H, W), (H, W, 3) or (H, W, 4), a tensor as (3, H, W)")
    try:
        pixels = _eight_bits(pixels.reshape(*pixels.shape[:2], channels)[..., : channels - (channels in (2, 4))])
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error
    return Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _eight_bits(pixels: np.ndarray) -> UInt8[np.ndarray, "height width channels"]:
    if pixels.dtype == np.uint8:
        return pixels
    low, high = pixels.min(), pixels.max()
    if pixels.dtype == bool or np.issubdtype(pixels.dtype, np.floating):
        if not (low >= 0 and high <= 1):
            raise ValueError(f"floating-point values from {low} to {high}; scale them to 0..1")
        scale = 1.0
    else:
        if not (low >= 0 and high < 2 ** _BITS[-1]):
            raise ValueError(f"values from {low} to {high}; give 8- or 16-bit ones")
        scale = 2.0 ** next(bits for bits in _BITS if high < 2**bits) - 1
    return (pixels.astype(np.float64) * (255 / scale)).round().astype(np.uint8)


def read_mask(mask: ImageLike, value: int | None = None, name: str = "mask") -> Bool[np.ndarray, "height width"]:
    """Where the object is: every pixel other than 0, the 255 of a label map among them, or those equal to ``value``.

    Args:
        mask: one channel, or several equal ones; an alpha channel does not count.
        value: the object's value in a label map.
        name: what messages call it; a path's is the path.

    Raises:
        DataError: it cannot be read, is no mask, or shows no object; says which.
    """
    if isinstance(mask, str | os.PathLike):
        mask, name = open_image(Path(mask).expanduser()), str(mask)
    if isinstance(mask, Image.Image):
        if mask.format in ("JPEG", "MPO"):
            raise DataError(f"{name}: JPEG blurs a mask's values; save it as PNG")
        mask = ImageOps.exif_transpose(mask)
    try:
        values = one_channel(_array(mask))
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error
    if values.ndim != 2:
        raise DataError(f"{name}: shape {values.shape}; give a mask of one channel, (H, W)")
    shown = values != 0 if value is None else values == value
    if not shown.any():
        found = np.unique(values)[:10].tolist()
        raise DataError(f"{name}: no pixel {'other than 0' if value is None else f'of value {value}'}, only {found}")
    return shown


def open_image(path: Path, page: int | None = None) -> Image.Image:
    """One page of an image file, decoded.

    Raises:
        DataError: it cannot be read, or holds several pages and ``page`` does not say which; names it.
    """
    try:
        with decoding(path) as stored:
            if page is None and pages(stored) > 1:
                raise ValueError(f"{pages(stored)} pages; open it with Pillow and give the pages as images")
            stored.seek(page or 0)
            stored.load()
            return stored
    except ValueError as error:
        raise DataError(str(error)) from error


@contextmanager
def decoding(path: Path) -> Iterator[Image.Image]:
    """An image file, open for its pixels to be read within the ``with``.

    Raises:
        ValueError: names the file and what is wrong with it, whatever was raised.
    """
    try:
        with Image.open(path) as stored:
            yield stored
    except Exception as error:  # damaged files bring the decoders to raise almost anything
        raise ValueError(f"{path}: {_reason(error, path)}") from error


def _reason(error: Exception, path: Path) -> str:
    """What an error says, without the file's name."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return said.replace(repr(str(path)), "").replace("  ", " ").strip() or type(error).__name__


def pages(image: Image.Image) -> int:
    """How many pages a TIFF has; frames of other formats, such as a photograph's preview, do not count."""
    return getattr(image, "n_frames", 1) if image.format == "TIFF" else 1


def _array(image: Image.Image | np.ndarray | Tensor) -> np.ndarray:
    if isinstance(image, Tensor):
        image = (image.movedim(0, -1) if image.ndim == 3 else image).detach().cpu().numpy()
    return np.asarray(image)


def one_channel(values: np.ndarray) -> np.ndarray:
    """The only channel of (H, W) or (H, W, C), or one of several equal ones; an alpha channel does not count.

    Raises:
        ValueError: channels that differ.
    """
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.ndim == 3:
        colours = values[..., : values.shape[2] - (values.shape[2] in (2, 4))]
        if (colours != colours[..., :1]).any():
            raise ValueError("a coloured mask; save it as a grayscale or palette image, one value a class")
        values = colours[..., 0]
    return np.ascontiguousarray(values)
