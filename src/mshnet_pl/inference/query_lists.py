"""Which files are to be segmented: those of a folder, of a pattern, or of a list of any length."""

import csv
import glob
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from mshnet_pl.data.io.folders import list_images, passed_over_lines
from mshnet_pl.data.io.images import is_image
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.utils.parquet import parquet

_COLUMN = "path"
_SEPARATORS = ",;\t|"


class Wanted(NamedTuple):
    """Files, which can be iterated again, and those that are passed over, with the reason."""

    paths: Iterable[Path]
    passed_over: dict[Path, str]


class ListFile:
    """The files that a list names, in its order; it is read while one iterates, and never held.

    A text file has a path a line (``#`` begins a comment), a CSV or Parquet file a column ``path``. Paths may be relative to
    the list's folder; nobody looks here whether something is there.

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
                    raise ValueError("it is no text in UTF-8; save it as that")
                yield folder / name
        except (OSError, ValueError, TypeError, csv.Error) as error:
            raise DataError(f"query={self._path} cannot be read: {error}") from error


def wanted_files(wanted: str) -> Wanted:
    """The images of a folder or of a pattern such as ``photos/**/*.jpg``, by path; a file; or the files of a list.

    Raises:
        ConfigError: there is none; says why files are none.
    """
    place = Path(wanted).expanduser()
    if place.is_file():
        paths: Iterable[Path] = ListFile(place) if _is_list(place) else [place]
        if next(iter(paths), None) is None:
            raise ConfigError(f"query={wanted}: it lists no image; give a path a line, or a column {_COLUMN}")
        return Wanted(paths, {})
    candidates = place.iterdir() if place.is_dir() else map(Path, glob.glob(str(place), recursive=True))
    images, passed_over = list_images(path for path in candidates if place.is_dir() or not path.is_dir())
    if not images:
        reasons = "".join(f"\n  {line}" for line in passed_over_lines(passed_over))
        found = f"no image that can be read:{reasons}\n" if reasons else "no image there; "
        raise ConfigError(f"query={wanted}: {found}give a folder of images, a file, a list, or a pattern in quotes")
    return Wanted(images, passed_over)


def _is_list(path: Path) -> bool:
    return path.suffix.lower() in KINDS and not is_image(path)


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:  # names of files need not be UTF-8
        for line in file:
            if (name := line.strip()) and not name.startswith("#"):
                yield name


def _rows(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        head = file.readline()
        separator = next((one for one in _SEPARATORS if one in head), ",")
        columns = [name.strip() for name in next(csv.reader([head], delimiter=separator), [])]
        _check_columns(columns)
        place = columns.index(_COLUMN)
        for row in csv.reader(file, delimiter=separator):
            if len(row) > place and row[place].strip():
                yield row[place].strip()


def _table(path: Path) -> Iterator[str]:
    with parquet(f"query={path}").ParquetFile(path.absolute()) as file:
        _check_columns(file.schema_arrow.names)
        for batch in file.iter_batches(columns=[_COLUMN]):
            yield from (os.fsdecode(name) for name in batch.column(0).to_pylist() if name)


def _check_columns(columns: list[str]) -> None:
    if _COLUMN not in columns:
        raise ValueError(f"it has the columns {', '.join(columns) or 'of nothing'}; call one {_COLUMN}")


KINDS: dict[str, Callable[[Path], Iterator[str]]] = {".txt": _lines, ".csv": _rows, ".parquet": _table}
"""The extensions of lists, and how the paths in them are read."""
