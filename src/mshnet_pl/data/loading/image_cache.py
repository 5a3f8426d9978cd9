"""Resized images kept for the next time that they are read, shared by all worker processes.

Every image has a place of its own or none: the places go to the first names of a fixed shuffle, as many as the budget holds,
and nothing is ever driven out. So processes need no lock: whoever finds a place unfilled decodes the image and fills it, and
whoever comes at the same time writes the same bytes. A checksum of file, name and pixels stands before the pixels and is
written last; what does not fit it (never written, half written, damaged) counts as absent.
"""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import PIL
import torch
from jaxtyping import UInt8
from PIL import features
from torch import Tensor

from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.utils.hashing import checksum
from mshnet_pl.utils.places import given_place

log = logging.getLogger(__name__)

_MB = 2**20
_CHECKSUM = 4  # bytes
_SHARED_MEMORY = Path("/dev/shm")


class ImageCache:
    """uint8 images of one size by name, in shared memory or in a file.

    Args:
        names: of all images that may be read.
        size: side S of the images.
        megabytes: budget in units of 2**20 bytes; memory is taken at once, a file grows as images come.
        folder: keep them in a file of this folder, where later runs and other processes find them; in memory by default.
        identity: for a file: what tells this data set, in its present state, from any other (``AbstractSource.identity``).

    Raises:
        ConfigError: the budget does not hold a single image.
        DataError: there is no room for the budget, or the folder cannot be written.
    """

    def __init__(
        self, names: Collection[str], size: int, megabytes: int, folder: str | None = None, identity: str = ""
    ) -> None:
        self._size = size
        record = _CHECKSUM + size * size * 3
        if record > megabytes * _MB:
            raise ConfigError(
                f"data.cache_mb={megabytes}: an image of {size} x {size} takes {record} bytes; "
                f"give at least {-(-record // _MB)}, or 0 for no cache"
            )
        order = sorted(set(names), key=lambda name: (zlib.crc32(os.fsencode(name)), name))
        kept = order[: megabytes * _MB // record]
        self._places = {name: place for place, name in enumerate(kept)}
        self._records: _Memory | _File
        if folder is None:
            self._records = _Memory(len(kept), record)
        else:
            key = hashlib.sha256(json.dumps([identity, _decoder(), size, order]).encode()).hexdigest()
            path = given_place(folder, "data.cache_dir") / f"images-{size}-{key[:32]}.bin"
            self._records = _File(path, len(kept), len(order), record)
        log.info(
            "data.cache_mb=%d: %d of %d images, %.0f MB in %s",
            megabytes, len(kept), len(order), len(kept) * record / _MB, self._records.place,
        )  # fmt: skip

    def get(self, name: str, make: Callable[[], UInt8[Tensor, "size size 3"]]) -> UInt8[Tensor, "size size 3"]:
        """The image of that name, which ``make`` decodes and resizes if it is not here yet.

        Raises:
            DataError: the file can no longer be read or written.
        """
        place = self._places.get(name)
        if place is None:
            return make()
        record, owner = self._records.read(place), f"{self._records.name} {name}"
        if record[:_CHECKSUM].tobytes() != checksum(owner, record[_CHECKSUM:].data):
            if record[:_CHECKSUM].any():
                log.warning("%s: the image %s is damaged; read anew", self._records.place, name)
            record[_CHECKSUM:] = make().numpy().reshape(-1)
            record[:_CHECKSUM] = np.frombuffer(checksum(owner, record[_CHECKSUM:].data), np.uint8)
            self._records.write(place, record)
        return torch.from_numpy(record[_CHECKSUM:].reshape(self._size, self._size, 3))


class _Memory:
    """Records in memory that forked and spawned processes share."""

    place = name = "shared memory"

    def __init__(self, count: int, record: int) -> None:
        if _SHARED_MEMORY.is_dir():
            _check_room("data.cache_mb", _SHARED_MEMORY, count * record)
        self._records = torch.zeros(count, record, dtype=torch.uint8).share_memory_()

    def read(self, place: int) -> UInt8[np.ndarray, " bytes"]:
        return self._records[place].numpy().copy()

    def write(self, place: int, record: UInt8[np.ndarray, " bytes"]) -> None:
        for part in (slice(_CHECKSUM, None), slice(_CHECKSUM)):
            self._records[place].numpy()[part] = record[part]


class _File:
    """Records in a file with holes: it has its full length at once, and takes room as records are written.

    It is opened anew for every record, so that processes share no position, and read without mapping it, so that a full
    disk is an error and not the end of the process.
    """

    def __init__(self, path: Path, kept: int, count: int, record: int) -> None:
        self._path, self._record = path, record
        self.place, self.name = str(path), path.name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                filled = getattr(os.fstat(file.fileno()), "st_blocks", 0) * 512
                _check_room("data.cache_dir", path.parent, max(kept * record - filled, 0))
                file.truncate(count * record)
        except OSError as error:
            raise self._failed(error) from error

    def read(self, place: int) -> UInt8[np.ndarray, " bytes"]:
        record = np.zeros(self._record, np.uint8)
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(place * self._record)
                file.readinto(record.data)
        except OSError as error:
            raise self._failed(error) from error
        return record

    def write(self, place: int, record: UInt8[np.ndarray, " bytes"]) -> None:
        try:
            with self._path.open("r+b") as file:
                file.seek(place * self._record + _CHECKSUM)
                file.write(record[_CHECKSUM:].data)
                file.flush()
                file.seek(place * self._record)
                file.write(record[:_CHECKSUM].data)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> DataError:
        return DataError(
            f"data.cache_dir={self._path.parent}: {error}; give another folder, or data.cache_dir=null for a cache in memory"
        )


def _check_room(setting: str, where: Path, needed: int) -> None:
    free = shutil.disk_usage(where).free
    if needed > free:
        raise DataError(
            f"{setting}: the images need {needed / _MB:.0f} MB more in {where}, which has {free / _MB:.0f} MB left; "
            "make room, or give a smaller data.cache_mb"
        )


def _decoder() -> list[str | None]:
    """What decodes and resizes: another release may give other pixels."""
    return [PIL.__version__, features.version("jpg"), features.version("libjpeg_turbo"), features.version("zlib")]
