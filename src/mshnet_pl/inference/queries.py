"""The images that are to be segmented, and what their results are called."""

import glob
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from mshnet_pl.data.io.images import open_image, pages, read_image
from mshnet_pl.data.io.manifest import image_files
from mshnet_pl.errors import ConfigError


class Query(NamedTuple):
    """One image: a file, or a page of a TIFF stack."""

    path: Path
    page: int | None
    """None where the file has only one."""
    name: str
    """Of its results: unlike any other query's, on any file system."""

    def read(self) -> Image.Image:
        """The RGB image.

        Raises:
            DataError: it cannot be read; names it.
        """
        return read_image(open_image(self.path, self.page), str(self.path))


def find_queries(wanted: str) -> list[Query]:
    """The images of a folder, a file, or the files that a pattern such as ``photos/**/*.jpg`` matches; by path.

    A result has its image's stem as name, or where that is taken the file's full name, or that with a number.

    Raises:
        ConfigError: there is none.
    """
    place = Path(wanted).expanduser()
    if place.is_dir():
        paths = image_files(place)
    else:
        paths = [place] if place.is_file() else sorted(map(Path, glob.glob(str(place), recursive=True)))
        paths = [path for path in paths if path.is_file()]
    if not paths:
        raise ConfigError(f"query={wanted}: no image there; give a folder of images, a file, or a pattern in quotes")
    return _named(paths)


def _named(paths: Iterable[Path]) -> list[Query]:
    queries: list[Query] = []
    taken: set[str] = set()
    for path in paths:
        numbers = range(_pages(path))
        ends = [f"_p{page}" for page in numbers] if len(numbers) > 1 else [""]
        name, more = path.stem, 1
        while not taken.isdisjoint(f"{name}{end}".casefold() for end in ends):
            name, more = path.name if more == 1 else f"{path.name}_{more}", more + 1
        taken |= {f"{name}{end}".casefold() for end in ends}
        queries += [Query(path, page if len(ends) > 1 else None, f"{name}{ends[page]}") for page in numbers]
    return queries


def _pages(path: Path) -> int:
    if path.suffix.lower() not in (".tif", ".tiff"):
        return 1
    try:
        with Image.open(path) as image:
            return pages(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return 1  # reading it says what is wrong
