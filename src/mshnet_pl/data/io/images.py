"""Images as people have them: files, Pillow images, arrays or tensors, of 8 or 16 bits or floating point."""

import io
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from mshnet_pl.errors import DataError

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
    if isinstance(image, str | os.PathLike):
        image, name = open_image(Path(image).expanduser()), str(image)
    if isinstance(image, Image.Image):
        try:
            image = ImageOps.exif_transpose(image) if turn else image
            if not image.mode.startswith(("I", "F")):
                return image.convert("RGBA" if image.mode == "P" else "RGB").convert("RGB")
        except Exception as error:  # as open_image
            raise DataError(f"{name}: {error}") from error
    pixels = as_array(image)
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    if pixels.ndim not in (2, 3) or channels not in (1, 2, 3, 4) or not pixels.size:
        raise DataError(f"{name}: shape {pixels.shape}; give (H, W), (H, W, 3) or (H, W, 4), a tensor as (3, H, W)")
    try:
        pixels = _eight_bits(pixels.reshape(*pixels.shape[:2], channels)[..., : channels - (channels in (2, 4))], bits)
    except ValueError as error:
        raise DataError(f"{name}: {error}") from error
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
            with decoding(Path(image).expanduser(), page) as stored:
                pixels = np.asarray(stored) if stored.mode.startswith("I") else None
        else:
            pixels = as_array(image)
    except ValueError:
        return 8
    if pixels is None or not np.issubdtype(pixels.dtype, np.integer) or pixels.dtype == np.uint8 or not pixels.size:
        return 8
    return next((bits for bits in _BITS if pixels.max() < 2**bits), 8)


def _eight_bits(pixels: np.ndarray, bits: int) -> UInt8[np.ndarray, "height width channels"]:
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
        scale = 2.0 ** next(depth for depth in (bits, *_BITS) if high < 2**depth) - 1
    return (pixels.astype(np.float64) * (255 / scale)).round().astype(np.uint8)


def open_image(path: Path, page: int | None = None) -> Image.Image:
    """One page of an image file, decoded.

    Raises:
        DataError: it cannot be read, or holds several pages and ``page`` does not say which; names it.
    """
    try:
        with decoding(path, page) as stored:
            stored.load()
            return stored
    except ValueError as error:
        raise DataError(str(error)) from error


def image_size(image: Path | io.BytesIO | Image.Image) -> tuple[int, int]:
    """Width and height of an image as ``read_image`` turns it; of a file only the header is read.

    Raises:
        ValueError: it cannot be read; names it.
    """
    if not isinstance(image, Image.Image):
        with decoding(image) as stored:
            return image_size(stored)
    on_the_side = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
    return (image.height, image.width) if on_the_side else image.size


def turned_mask(mask: np.ndarray, path: Path) -> np.ndarray:
    """A mask (H, W) of an image as it is stored, turned as that image's EXIF orientation says.

    Raises:
        ValueError: the image cannot be read; names it.
    """
    with decoding(path) as stored:
        drawn = Image.fromarray(mask.astype(np.uint8))
        drawn.getexif()[ExifTags.Base.Orientation] = stored.getexif().get(ExifTags.Base.Orientation, 1)
    return np.asarray(ImageOps.exif_transpose(drawn)).astype(mask.dtype)


@contextmanager
def decoding(path: Path | io.BytesIO, page: int | None = None) -> Iterator[Image.Image]:
    """One page of an image file, open for its pixels to be read within the ``with``.

    Raises:
        ValueError: names the file and what is wrong with it, whatever was raised; also several pages where ``page`` does
            not say which, and more than ``MAX_PIXELS``.
    """
    try:
        with Image.open(path, formats=FORMATS) as stored:
            if page is None:
                page, *more = pages(stored)
                if more:
                    raise ValueError(f"{len(more) + 1} pages; open it with Pillow and give the pages as images")
            stored.seek(page)
            check_size(*stored.size)
            yield stored
    except UnidentifiedImageError as error:
        raise ValueError(f"{_called(path)}: {NO_FORMAT}") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{_called(path)}: {_TOO_LARGE}") from error
    except Exception as error:  # damaged files bring the decoders to raise almost anything
        raise ValueError(f"{_called(path)}: {_reason(error, path)}") from error


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
        with Image.open(path, formats=FORMATS):
            return True
    except Exception:  # as decoding
        return False


def page_numbers(path: Path) -> list[int]:
    """The pages of an image file, see ``pages``; [0] also of one that cannot be read, which reading it then says."""
    try:
        with Image.open(path, formats=FORMATS) as stored:
            return pages(stored)
    except Exception:  # as decoding
        return [0]


def pages(image: Image.Image) -> list[int]:
    """The pages of a TIFF by number, without overviews and transparency masks of other pages; of other formats the first.

    Frames of other formats, such as a photograph's preview, are no pages. GDAL and slide scanners store an image several
    times in sizes that halve.
    """
    if image.format != "TIFF" or getattr(image, "n_frames", 1) == 1:
        return [0]
    own = []
    for number in range(image.n_frames):  # type: ignore[attr-defined]
        image.seek(number)
        kind = image.tag_v2.get(254, 0)  # type: ignore[attr-defined]
        if not (isinstance(kind, int) and kind & (_REDUCED | _TRANSPARENCY)):
            own.append(number)
    return own or [0]


def as_array(image: Image.Image | np.ndarray | Tensor) -> np.ndarray:
    """(H, W) or (H, W, C), of a tensor too."""
    if isinstance(image, Tensor):
        image = (image.movedim(0, -1) if image.ndim == 3 else image).detach().cpu().numpy()
    return np.asarray(image)
