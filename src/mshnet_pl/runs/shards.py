"""A prediction in parts: where they lie, what they are made of, and the plan that says so before the first is begun."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mshnet_pl.data.io.marks import Marks
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.inference.supports import Supports
from mshnet_pl.utils.hashing import sha256
from mshnet_pl.utils.parquet import parquet

_WHAT = "format=parquet"


class Folder:
    """The folder of the results. Readers of Parquet folders pass over names that begin with ``_`` or a dot.

    Attributes:
        path: of the folder.
        plan: see ``Plan``; written last of what is in its folder.
        queries: the files to segment, in order: a row group a part.
        support: what was fitted, of ``Segmenter.save_support``.
        sheet: the supports, to look at.
        masks: folder of a folder of masks a part.
    """

    def __init__(self, path: Path) -> None:
        self.path, inside = path, path / "_plan"
        self.plan, self.queries, self.support = (inside / n for n in ("plan.json", "queries.parquet", "support.safetensors"))
        self.sheet, self.masks = inside / "contact_sheet.png", path / "_masks"

    @property
    def parts(self) -> list[Path]:
        """Those that are there."""
        return sorted(self.path.glob("part-*.parquet"))

    @property
    def results(self) -> list[Path]:
        """What is written, or removed with ``overwrite``; of new parts the place alone counts."""
        return [self.plan.parent, self.plan, self.queries, self.support, self.sheet, self.masks, *self.parts]

    @property
    def is_prepared(self) -> bool:
        """Whether all is there that workers read."""
        return self.queries.exists() and self.support.exists()

    def part(self, number: int) -> Path:
        """A part's name."""
        return self.path / f"part-{number:05d}.parquet"

    def left(self, numbers: Iterable[int], masks: bool) -> list[int]:
        """The parts of these that are not there, or lack the folder of their masks where there are to be some.

        Raises:
            DataError: see ``Counts.of``.
        """
        return [number for number in numbers if not self._is_done(self.part(number), masks)]

    def _is_done(self, part: Path, masks: bool) -> bool:
        if not part.exists() or not masks or (self.masks / part.stem).exists():
            return part.exists()
        counts = Counts.of(part)
        return counts.images == counts.errors


class Plan(NamedTuple):
    """What results depend on: with the same plan every part has the same bytes, whoever makes it, and when."""

    queries: int
    """Files."""
    queries_sha256: str
    shard_size: int
    network_sha256: str
    supports_sha256: str
    settings: dict[str, Any]
    versions: dict[str, str]

    @property
    def parts(self) -> int:
        """How many there are."""
        return -(-self.queries // self.shard_size)

    def size(self, part: int) -> int:
        """Files of a part."""
        return min(self.shard_size, self.queries - part * self.shard_size)

    @classmethod
    def read(cls, path: Path) -> "Plan | None":
        """The plan of a folder; None if it has none.

        Raises:
            DataError: it cannot be read.
        """
        try:
            return cls(**json.loads(path.read_text()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path} is no plan: {error}; give another folder, or overwrite=true") from error

    def content(self) -> bytes:
        """The file."""
        return f"{json.dumps(self._asdict(), indent=1)}\n".encode()

    def differences(self, other: "Plan") -> list[str]:
        """What is another value there, a line each."""
        ours, theirs = _flat(self._asdict()), _flat(json.loads(other.content()))
        return [
            f"{key}={theirs.get(key)} there, {ours.get(key)} here"
            for key in ours | theirs
            if ours.get(key) != theirs.get(key)
        ]


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    nested: Iterator[dict[str, Any]] = (value if isinstance(value, dict) else {key: value} for key, value in values.items())
    return {key: json.loads(json.dumps(value)) for one in nested for key, value in one.items()}


def names_of(paths: Iterable[Path], out: Path) -> Iterator[bytes]:
    """The paths as the file system has them.

    Raises:
        ConfigError: one lies in ``out``, the folder of the results.
    """
    inside = os.path.join(os.path.abspath(out), "")
    for path in paths:
        if os.path.abspath(path).startswith(inside):
            raise ConfigError(f"out={inside} holds queries, such as {path}; give another folder")
        yield os.fsencode(path)


def count_and_digest(names: Iterable[bytes]) -> tuple[int, str]:
    """How many there are, and their SHA-256."""
    digest, count = hashlib.sha256(), 0
    for name in names:
        count += 1
        digest.update(len(name).to_bytes(8, "little") + name)
    return count, digest.hexdigest()


def write_queries(path: Path, names: Iterable[bytes], shard_size: int) -> None:
    """The list of files as Parquet, a row group a part."""
    import pyarrow as pa

    from mshnet_pl.inference.tiling import batches

    schema = pa.schema([("path", pa.binary())])
    with parquet(_WHAT).ParquetWriter(path.absolute(), schema) as writer:  # a:b is an address, /a:b a file
        for batch in batches(names, shard_size):
            writer.write_table(pa.table({"path": batch}, schema))


def read_queries(path: Path, part: int) -> list[Path]:
    """The files of a part."""
    with parquet(_WHAT).ParquetFile(path.absolute()) as file:
        return [Path(os.fsdecode(name)) for name in file.read_row_group(part).column(0).to_pylist()]


def supports_digest(given: Path, supports: Supports) -> str:
    """SHA-256 of a support file, or of the supports' images and masks, class by class; not of their names."""
    if not supports.classes:
        return sha256(given)
    digest = hashlib.sha256()
    for name, shown in supports.shown.items():
        for support in shown:
            described = [name, name in supports.negatives, _digest(support.image), _digest(support.mask)]
            digest.update(json.dumps(described).encode())
    return digest.hexdigest()


def _digest(content: Any) -> str:  # noqa: ANN401 - what a support holds
    if isinstance(content, Path):
        return sha256(content)
    pixels = np.ascontiguousarray(content.told() if isinstance(content, Marks) else content)
    return hashlib.sha256(f"{type(content).__name__} {pixels.dtype} {pixels.shape}".encode() + pixels.tobytes()).hexdigest()


class Counts(NamedTuple):
    """What parts hold; kept in each one's footer."""

    images: int = 0
    errors: int = 0
    rows: int = 0
    found: dict[str, int] = {}  # noqa: RUF012 - of a tuple, never changed
    """Images a class."""

    def __add__(self, other: "Counts") -> "Counts":  # type: ignore[override]
        """Of both together."""
        found = {name: self.found.get(name, 0) + number for name, number in other.found.items()}
        return Counts(self.images + other.images, self.errors + other.errors, self.rows + other.rows, self.found | found)

    def metadata(self) -> dict[str, str]:
        """For a Parquet file's footer."""
        return {_WHAT: json.dumps(self._asdict())}

    @classmethod
    def of(cls, part: Path) -> "Counts":
        """Those of a part.

        Raises:
            DataError: it is none.
        """
        try:
            return cls(**json.loads(parquet(_WHAT).read_schema(part.absolute()).metadata[_WHAT.encode()]))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{part} is no part of a prediction: {error}; remove it, and give the same command again"
            ) from error
