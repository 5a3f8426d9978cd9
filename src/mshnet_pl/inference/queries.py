"""The images that are to be segmented, and what their results are called."""

import os
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from mshnet_pl.data.io.folders import plain
from mshnet_pl.data.io.georeference import Tags, georeference
from mshnet_pl.data.io.images import bits_of, open_image, page_numbers, read_image
from mshnet_pl.inference.query_lists import wanted_files

_MAX_NAME = 255 - len("_overlay.png")
"""Bytes of a result's name without its end, on most file systems."""


class Query(NamedTuple):
    """One image: a file, or a page of a TIFF stack, or a frame of an animation."""

    path: Path
    page: int | None
    """None where the file has only one."""
    name: str
    """Of its results: unlike any other query's, on any file system."""

    def read(self, bits: int = 8) -> Image.Image:
        """The RGB image; ``bits`` as in ``read_image``.

        Raises:
            DataError: it cannot be read; names it.
        """
        return read_image(open_image(self.path, self.page, bits), str(self.path), bits=bits)

    def bits(self) -> int:
        """How deep it is, see ``bits_of``."""
        return bits_of(self.path, self.page)

    @property
    def mask_name(self) -> str:
        """Of its mask's file: TIFF for a GeoTIFF, whose place on the earth it keeps, otherwise PNG."""
        return f"{self.name}_mask.{'png' if self.georeference is None else 'tif'}"

    @property
    def georeference(self) -> Tags | None:
        """See ``data.io.georeference``."""
        return georeference(self.path, self.page)


class Queries(NamedTuple):
    """What is segmented, and the files that are passed over, with the reason."""

    images: list[Query]
    passed_over: dict[Path, str]


def find_queries(wanted: str) -> Queries:
    """The images that ``query_lists.wanted_files`` finds, each page of a TIFF stack and each frame of an animation alone.

    Raises:
        ConfigError: there is none; says why files are none.
        DataError: a list that cannot be read.
    """
    paths, passed_over = wanted_files(wanted)
    return Queries([*named(paths)], passed_over)


def named(paths: Iterable[Path]) -> Iterator[Query]:
    """The queries of files, with names that are unlike each other.

    A result has its image's stem as name, or where that is taken the file's full name, or that with a number; shortened
    where it would be too long.
    """
    taken: set[str] = set()
    numbers: dict[tuple[str, int], Iterator[int]] = {}
    for path in paths:
        pages = page_numbers(path)
        ends = [f"_p{number}" for number in range(len(pages))] if len(pages) > 1 else [""]
        room = max(map(len, ends))
        more = numbers.setdefault((_short(path.name, "", room), len(ends)), count(2))
        for name in _names(path, room, more):
            wanted = {plain(f"{name}{end}") for end in ends}
            if taken.isdisjoint(wanted):
                break
        taken |= wanted
        for page, end in zip(pages, ends, strict=True):
            yield Query(path, page if len(ends) > 1 else None, f"{name}{end}")


def _names(path: Path, room: int, numbers: Iterator[int]) -> Iterator[str]:
    """What results may be called, with ``room`` bytes left for the end; ``numbers`` that no file of that name had yet."""
    yield _short(path.stem, "", room)
    yield _short(path.name, "", room)
    yield from (_short(path.name, f"_{more}", room) for more in numbers)


def _short(name: str, end: str, room: int) -> str:
    stored = os.fsencode(name)
    most = _MAX_NAME - room - len(end)
    return f"{name if len(stored) <= most else stored[:most].decode(errors='ignore')}{end}"
