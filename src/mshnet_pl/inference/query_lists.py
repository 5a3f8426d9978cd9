"""Which files are to be segmented: those of a folder, of a pattern, or of a list of any length."""

import csv
import glob
import os
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TextIO

from mshnet_pl.data.io.folders import Listing, list_images, passed_over_lines
from mshnet_pl.data.io.images import is_image
from mshnet_pl.data.io.tables import read_rows
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.utils.parquet import parquet
from mshnet_pl.utils.places import entries, given_place, written_place
from mshnet_pl.utils.text import encoding_of

_COLUMN = "path"
_NO_TEXT = "it is no text in UTF-8, UTF-16 or UTF-32, so save it as UTF-8"
_START = 4096
"""Bytes by which a list's encoding is told."""


class ListFile:
    """The files that a list names, in its order; it is read while one iterates, and never held.

    A text file has a path a line (``#`` begins a comment where no file is called so), a CSV or Parquet file a column
    ``path``. Paths may be relative to the list's folder, and have the backslashes of Windows; nobody looks here whether
    something is there. Text is in UTF-8, UTF-16 or UTF-32, a CSV as ``tables.read_rows`` takes it.

    Args:
        path: of the list; its extension is one of ``KINDS``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = KINDS[path.suffix.lower()]

    def __iter__(self) -> Iterator[Path]:
        """Raises a ``DataError`` for what is no such list."""
        folder = self._path.parent
        try:
            for name in self._read(self._path):
                if "\0" in name:
                    raise ValueError(_NO_TEXT)
                yield written_place(folder, name)
        except (OSError, ValueError, TypeError, csv.Error) as error:
            way_out = f"give a path a line, or a table, and of its columns call one {_COLUMN}"
            said = _NO_TEXT if isinstance(error, UnicodeError) else error
            raise DataError(f"query={self._path} cannot be read: {said}; {way_out}") from error


def wanted_files(wanted: str) -> Listing:
    """The images of a folder or of a pattern such as ``photos/**/*.jpg``, by path; a file; or the files of a list.

    Raises:
        ConfigError: there is none; says why files are none.
    """
    place = given_place(wanted, "query")
    if place.is_file():
        paths: Iterable[Path] = ListFile(place) if _is_list(place) else [place]
        if next(iter(paths), None) is None:
            raise ConfigError(f"query={wanted}: it lists no image; give a path a line, or a column {_COLUMN}")
        return Listing(paths, {})
    candidates: Iterable[Path] = entries(place) if place.is_dir() else map(Path, glob.glob(str(place), recursive=True))
    if "**" in place.parts:
        start = place.parts.index("**")
        candidates = (path for path in candidates if not _comes_round(path.parent, start))
    images, passed_over = list_images(path for path in candidates if place.is_dir() or not path.is_dir())
    if not images:
        reasons = "".join(f"\n  {line}" for line in passed_over_lines(passed_over))
        found = f"no image that can be read:{reasons}\n" if reasons else "no image there; "
        raise ConfigError(f"query={wanted}: {found}give a folder of images, a file, a list, or a pattern in quotes")
    return Listing(images, passed_over)


@cache
def _comes_round(folder: Path, start: int) -> bool:
    """Whether links lead from a folder's part of that number on, or one after it, into itself again."""
    places = [os.path.realpath(Path(*folder.parts[:end])) for end in range(start, len(folder.parts) + 1)]
    return len({*places}) < len(places)


def _is_list(path: Path) -> bool:
    return path.suffix.lower() in KINDS and not is_image(path)


def _opened(path: Path) -> TextIO:
    """A list in one of the encodings of ``read_text``; names of files need not be UTF-8."""
    with path.open("rb") as file:
        start = file.read(_START)
    return path.open(encoding=encoding_of(start), errors="surrogateescape", newline="")


def _lines(path: Path) -> Iterator[str]:
    with _opened(path) as file:
        for line in file:
            name = line.strip()
            if name.startswith("#") and not os.path.isfile(written_place(path.parent, name)):
                continue
            name = name[1:-1] if len(name) > 1 and name[0] == name[-1] == '"' else name  # as Windows copies a path
            if name:
                yield name


def _rows(path: Path) -> Iterator[str]:
    for _, row in read_rows(lambda: _opened(path), [_COLUMN]):
        if name := row[_COLUMN]:
            yield name


def _table(path: Path) -> Iterator[str]:
    with parquet(f"query={path}").ParquetFile(path.absolute()) as file:
        columns = file.schema_arrow.names
        named = [name for name in columns if name.strip().lower() == _COLUMN]
        if len(named) != 1:
            raise ValueError(f"it has the columns {', '.join(columns) or 'of nothing'}")
        for batch in file.iter_batches(columns=named):
            for name in batch.column(0).to_pylist():
                if not isinstance(name, str | bytes | None):
                    raise ValueError(f"its column {named[0]} holds {name!r}, which is no path")
                if name:
                    yield os.fsdecode(name)


KINDS: dict[str, Callable[[Path], Iterator[str]]] = {".txt": _lines, ".csv": _rows, ".parquet": _table}
"""The extensions of lists, and how the paths in them are read."""
