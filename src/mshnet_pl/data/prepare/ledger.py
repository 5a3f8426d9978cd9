"""What was written into a data set's folder, so that a later run neither repeats it nor overwrites what others put there."""

import json
from pathlib import Path

from mshnet_pl.errors import DataError
from mshnet_pl.utils.files import write_whole
from mshnet_pl.utils.records import read_json

FOLDER = ".mshnet-prepare"

Stamp = list[str | int]
"""A file's path below the root, its size and time of modification: another stamp, another content."""


class Ledger:
    """A file of ``root/.mshnet-prepare``: for every result its own stamp and that of what it was made from.

    Raises:
        DataError: the file is damaged.
    """

    def __init__(self, root: Path, name: str) -> None:
        self._root, self._path = root, root / FOLDER / f"{name}.json"
        self._records: dict[str, tuple[Stamp, Stamp]] = {}
        self._changed = False
        if self._path.is_file():
            try:
                stored = read_json(self._path)
                self._records = {result: (own, source) for result, (own, source) in stored.items()}
            except (ValueError, AttributeError, TypeError) as error:
                raise DataError(f"{self._path}: damaged ({error}); delete it and run this again") from error

    def stamp(self, path: Path) -> Stamp:
        """What tells a file from its earlier and later versions."""
        found = path.stat()
        return [str(path.relative_to(self._root)), found.st_size, found.st_mtime_ns]

    def results(self) -> list[Path]:
        """Every file that is noted here."""
        return [self._root / result for result in self._records]

    def is_made_from(self, result: Path, source: Path) -> bool:
        """Whether ``result`` was made from ``source`` as that is now."""
        return self._records.get(self._key(result), (None, None))[1] == self.stamp(source)

    def is_ours(self, result: Path) -> bool:
        """Whether ``result`` is still as it was noted."""
        own, _ = self._records.get(self._key(result), (None, None))
        return own is not None and result.is_file() and own == self.stamp(result)

    def note(self, result: Path, source: Path | None = None) -> None:
        """Remember that ``result`` is as it should be."""
        record = self.stamp(result), [] if source is None else self.stamp(source)
        self._changed |= self._records.get(self._key(result)) != record
        self._records[self._key(result)] = record

    def save(self) -> None:
        """Write it, if anything changed."""
        if self._changed:
            write_whole(self._path, json.dumps(self._records).encode())
            self._changed = False

    def _key(self, path: Path) -> str:
        return str(path.relative_to(self._root))
