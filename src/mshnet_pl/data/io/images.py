"""Images as people have them: files, Pillow images, arrays or tensors, of 8 or 16 bits or floating point."""

import io
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor, bfloat16, strided

from mshnet_pl.data.io.deep_colours import has_deep_colours, name_planes, take_lower_bytes
from mshnet_pl.errors import DataError
from mshnet_pl.utils.places import expanded

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor
"""A path, a Pillow image, an array (H, W) or (H, W, C), or a tensor (H, W) or (C, H, W)."""
ImagesLike = ImageLike | Iterable[ImageLike]
"""One, or several."""

Image.init()
FORMATS = tuple(
    name
    for name in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM")
    if name in Image.OPEN  # AVIF and JPEG 2000 are left out of some builds
)
"""What is opened, by content: Pillow knows others, of which some start programs. JPEG has MPO in it."""
EXTENSIONS = frozenset(extension for extension, name in Image.registered_extensions().items() if name in (*FORMATS, "MPO"))
"""In lower case, with the dot."""
MAX_PIXELS = 400_000_000
"""Of an image: 1.2 GB as RGB. Pillow's own bound, of 179 million, is raised to it."""
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.simplefilter("error", Image.DecompressionBombWarning)  # what Pillow says above the bound, up to twice of it
_BITS = 8, 10, 12, 14, 16
"""How deep cameras and microscopes sample."""
MAX_BITS = _BITS[-1]
_ANIMATED = "AVIF", "GIF", "PNG", "WEBP"  # formats whose frames are pictures
_REDUCED, _TRANSPARENCY = 1, 4
"""Bits of a TIFF page's NewSubfileType: an overview of another page, and a mask of one."""


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
    if not isinstance(images, Iterable) or isinstance(images, Mapping | bytes | io.IOBase):
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


def read_image(image: ImageLike, name: str = "image", turn: bool = True, bits: int = 8) -> Image.Image:
    """The RGB image, without its alpha channel.

    Integers of more than 8 bits are scaled from ``bits``, or from the next of 8, 10, 12, 14 and 16 bits that holds the
    largest value. Floating-point values are brightnesses from 0 to 1.

    Args:
        image: gray, coloured or with a palette, with or without alpha; a file of one page.
        name: what messages call it; a path's is the path.
        turn: as the EXIF orientation says, which is what people see who outline objects. Without it, pixels stay where they
            are stored: the benchmarks' masks were made for these.
        bits: how deep the images of its set are, see ``bits_of``.

    Raises:
        DataError: it cannot be read, or is no image; says which.
    """
    try:
        if isinstance(image, str | os.PathLike):
            name, image = str(image), open_image(expanded(image), bits=bits)
        if isinstance(image, Image.Image):
            image = ImageOps.exif_transpose(image) if turn else image
            if all(image.size) and not image.mode.startswith(("I", "F")):
                return image.convert(_BETWEEN.get(image.mode, "RGB")).convert("RGB")
        return _from_array(as_array(image), bits)
    except DataError:
        raise
    except Exception as error:  # as decoding
        raise DataError(f"{name}: {error}") from error


_BETWEEN = {"P": "RGBA", "La": "LA"}  # modes that become RGB by way of another


def _from_array(pixels: np.ndarray, bits: int) -> Image.Image:
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.ndim not in (2, 3) or channels not in (1, 2, 3, 4) or not pixels.size:
        raise ValueError(f"shape {pixels.shape}; give (H, W), (H, W, 3) or (H, W, 4), a tensor as (3, H, W)")
    pixels = _eight_bits(pixels.reshape(*pixels.shape[:2], channels)[..., : channels - (channels in (2, 4))], bits)
    return Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def bits_of(image: ImageLike, page: int | None = None) -> int:
    """How deep an image is: 8, or for integers of more bits the smallest of 10, 12, 14 and 16 that holds the largest value.

    The images of a set have the same scale if each is read with the largest of their depths: ``read_image(bits=...)``.

    Args:
        image: as ``read_image``; of a file with 8 bits only the header is read.
        page: of a file.

    Returns:
        8 also for what cannot be read, which ``read_image`` then says.
    """
    try:
        if isinstance(image, str | os.PathLike):
            with decoding(expanded(image), page) as stored:
                pixels = _integers(stored)
        else:
            pixels = as_array(image)
    except ValueError:
        return 8
    if pixels is None or not np.issubdtype(pixels.dtype, np.integer) or pixels.dtype == np.uint8 or not pixels.size:
        return 8
    return next((bits for bits in _BITS if pixels.max() < 2**bits), 8)


def _integers(stored: Image.Image) -> np.ndarray | None:
    """The values of an image of more than 8 bits, of colours without their lower bytes; None of another."""
    if has_deep_colours(stored):
        return _upper_bytes(stored) << 8
    return np.asarray(stored) if stored.mode.startswith("I") else None


def _upper_bytes(stored: Image.Image) -> UInt16[np.ndarray, "height width 3"]:
    return np.asarray(stored)[..., :3].astype(np.uint16)


def _eight_bits(pixels: np.ndarray, bits: int) -> UInt8[np.ndarray, "height width channels"]:
    if pixels.dtype == np.uint8:
        return pixels
    low, high = pixels.min(), pixels.max()
    if pixels.dtype == bool or np.issubdtype(pixels.dtype, np.floating):
        if not (low >= 0 and high <= 1):
            raise ValueError(f"floating-point values from {low} to {high}; give finite ones from 0 to 1")
        return _scaled(pixels.astype(np.float64), 1.0)
    if not (low >= 0 and high < 2 ** _BITS[-1]):
        raise ValueError(f"values from {low} to {high}; give 8- or 16-bit ones")
    scale = 2.0 ** next(depth for depth in (bits, *_BITS) if high < 2**depth) - 1
    return _scaled(np.arange(int(high) + 1, dtype=np.float64), scale)[pixels]


def _scaled(values: np.ndarray, scale: float) -> np.ndarray:
    return (values * (255 / scale)).round().astype(np.uint8)


def open_image(path: Path, page: int | None = None, bits: int = 8) -> Image.Image:
    """One page of an image file, decoded.

    Args:
        path: of the file.
        page: of the file, if it has several.
        bits: what colours of 16 bits, of which an image holds eight, are scaled from; see ``read_image``.

    Raises:
        DataError: it cannot be read, or holds several pages and ``page`` does not say which; names it.
    """
    try:
        with decoding(path, page) as stored:
            deep = has_deep_colours(stored)
            stored.load()
        if deep and bits < MAX_BITS and (upper := _upper_bytes(stored)).max() < 2 ** (_BITS[-2] - 8):
            stored.paste(Image.fromarray(_eight_bits(upper << 8 | _lower_bytes(path, page), bits)))
        return stored
    except ValueError as error:
        raise DataError(str(error)) from error


def _lower_bytes(path: Path, page: int | None) -> UInt16[np.ndarray, "height width 3"]:
    with decoding(path, page) as stored:
        channels = take_lower_bytes(stored)
        return np.asarray(stored)[..., channels].astype(np.uint16)


class Frame(NamedTuple):
    """Width and height of an image in its file, and how EXIF says that it is to be turned."""

    stored: tuple[int, int]
    orientation: int

    @property
    def turned(self) -> tuple[int, int]:
        """Width and height as ``read_image`` turns it."""
        return self.stored[::-1] if self.orientation in (5, 6, 7, 8) else self.stored

    def turn(self, mask: np.ndarray) -> np.ndarray:
        """A mask (H, W) of the image as it is stored, turned."""
        drawn = Image.fromarray(mask.astype(np.uint8))
        drawn.getexif()[ExifTags.Base.Orientation] = self.orientation
        return np.asarray(ImageOps.exif_transpose(drawn)).astype(mask.dtype)


def frame_of(image: Path | Image.Image) -> Frame:
    """How an image lies in its file; of a file only the header is read.

    Raises:
        ValueError: it cannot be read; names it.
    """
    if isinstance(image, Path):
        with decoding(image) as stored:
            return frame_of(stored)
    tags = getattr(image, "tag_v2", {})  # from Pillow 12 on, a TIFF has the turned size before it is turned
    size = (tags[256], tags[257]) if ExifTags.Base.Orientation in tags else image.size
    return Frame(size, image.getexif().get(ExifTags.Base.Orientation, 1))


@contextmanager
def decoding(path: Path | io.BytesIO, page: int | None = None) -> Iterator[Image.Image]:
    """One page of an image file, open for its pixels to be read within the ``with``.

    Raises:
        ValueError: names the file and what is wrong with it, whatever was raised; also several pages where ``page`` does
            not say which, and more than ``MAX_PIXELS``.
    """
    try:
        with _opened(path) as stored:
            if page is None:
                page, *more = pages(stored)
                if more:
                    raise ValueError(f"{len(more) + 1} pages or frames; save the one that you want as a picture of its own")
            stored.seek(page)
            check_size(*stored.size)
            name_planes(stored)
            yield stored
    except UnidentifiedImageError as error:
        raise ValueError(f"{_called(path)}: {NO_FORMAT}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{_called(path)}: {_TOO_LARGE}") from error
    except Exception as error:  # damaged files bring the decoders to raise almost anything
        raise ValueError(f"{_called(path)}: {_reason(error, path)}") from error


@contextmanager
def _opened(path: Path | io.BytesIO) -> Iterator[Image.Image]:
    """An image file by its content. From a path Pillow maps pixels into memory, in wrong rows where EXIF turns them."""
    if isinstance(path, Path) and path.exists() and not path.is_file():  # to read a pipe may take for ever
        raise ValueError("a folder; give the pictures in it" if path.is_dir() else "a pipe or a device; give a file")
    with path.open("rb") if isinstance(path, Path) else path as file, Image.open(file, formats=FORMATS) as stored:
        yield stored


NO_FORMAT = f"no image of a format that is read ({', '.join(FORMATS)}); convert it to PNG or JPEG"
_TOO_LARGE = (
    f"more than {MAX_PIXELS // 10**6} megapixels; cut it into pieces, with ImageMagick's -crop or gdal_retile for instance, "
    "or make it smaller"
)


def check_size(width: int, height: int) -> None:
    """Refuse an image that no memory is made for.

    Raises:
        ValueError: no pixel, or more than ``MAX_PIXELS``.
    """
    if not (width > 0 and height > 0):
        raise ValueError(f"{width} x {height} pixels; an image has at least one")
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels: {_TOO_LARGE}")


def _called(file: Path | io.BytesIO) -> str:
    return str(file) if isinstance(file, Path) else "the image inside"


def _reason(error: Exception, path: object) -> str:
    """What an error says, without the file's name."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return said.replace(repr(str(path)), "").replace("  ", " ").strip() or type(error).__name__


def is_image(path: Path) -> bool:
    """Whether a file's content begins as an image does."""
    try:
        with _opened(path):
            return True
    except Exception:  # as decoding
        return False


def page_numbers(path: Path) -> list[int]:
    """The pages of an image file, see ``pages``; [0] also of one that cannot be read, which reading it then says."""
    try:
        with _opened(path) as stored:
            return pages(stored)
    except Exception:  # as decoding
        return [0]


def pages(image: Image.Image) -> list[int]:
    """The pages of a TIFF by number, without overviews and transparency masks of other pages; the frames of an animation.

    Further pictures in other files, such as a photograph's preview, are no pages. GDAL and slide scanners store an image
    several times in sizes that halve.
    """
    count = getattr(image, "n_frames", 1)
    if image.format != "TIFF" or count == 1:
        return [*range(count)] if image.format in _ANIMATED else [0]
    own = []
    for number in range(count):
        image.seek(number)
        kind = image.tag_v2.get(254, 0)  # type: ignore[attr-defined]
        if not (isinstance(kind, int) and kind & (_REDUCED | _TRANSPARENCY)):
            own.append(number)
    return own or [0]


def as_array(image: Image.Image | np.ndarray | Tensor) -> np.ndarray:
    """(H, W) or (H, W, C), of a tensor too.

    Raises:
        ValueError: of what is no number, or cannot be brought to this computer's memory.
    """
    if isinstance(image, Tensor):
        try:
            image = image.detach().cpu()
            image = image if image.layout is strided else image.to_dense()
            image = image.float() if image.dtype is bfloat16 else image
            image = (image.movedim(0, -1) if image.ndim == 3 else image).numpy()
        except (RuntimeError, TypeError) as error:  # of a kind that NumPy does not know
            raise ValueError(f"a tensor of {image.dtype}: {error}") from error
    pixels = np.asarray(image)
    if pixels.dtype.kind not in "biuf":
        raise ValueError(f"values of type {pixels.dtype}; give whole or floating-point numbers")
    return pixels
