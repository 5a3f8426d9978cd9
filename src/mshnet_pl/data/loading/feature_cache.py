"""Features of images that a frozen backbone need compute only once: in memory for a test, in a file for training.

Every image has a place of its own or none; nothing is ever driven out. What is read back equals what was computed to the
last bit, so a cache changes no result.
"""

import hashlib
import json
import logging
import os
import shutil
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Int64
from torch import Tensor

from mshnet_pl.errors import DataError

log = logging.getLogger(__name__)

_MB = 2**20
_HEAD = 64  # bytes before a record's features: the checksum, and what keeps them aligned


class FeatureShape(NamedTuple):
    """What the backbone gives for a block of one image."""

    shape: tuple[int, int, int, int]
    """Layers, height, width, channels: as they lie in memory."""
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """In bytes."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


class AbstractFeatureCache(ABC):
    """Features of one image a place, a tensor (L, d, h, w) of every block."""

    places: dict[str, int]
    """Where the images that have a place are, by name."""

    @abstractmethod
    def absent(self, names: Collection[str]) -> list[str]:
        """Those of ``names`` whose features are to be computed; gives them places as far as there is room.

        Raises:
            DataError: there is no room.
        """

    @abstractmethod
    def put(self, name: str, features: Iterable[Tensor]) -> None:
        """Keep an image's features, (1, L, d, h, w) of every block."""

    @abstractmethod
    def get(self, places: Int64[Tensor, "images"]) -> tuple[Tensor, ...]:
        """The features at ``places``: (N, L, d, h, w) of every block, on the CPU or where they were computed."""

    def __deepcopy__(self, memo: dict[int, object]) -> "AbstractFeatureCache":
        """Itself: a copy of what reads from it, as averages of weights are, reads the same features."""
        return self


class FeatureMemory(AbstractFeatureCache):
    """Features in memory, on the device that computed them.

    Args:
        blocks: what the backbone gives for an image.
        megabytes: budget in units of 2**20 bytes; images beyond it have no place.
    """

    def __init__(self, blocks: Sequence[FeatureShape], megabytes: int) -> None:
        self.places = {}
        self._most = megabytes * _MB // sum(block.size for block in blocks)
        self._kept: dict[int, tuple[Tensor, ...]] = {}

    def absent(self, names: Collection[str]) -> list[str]:
        """See ``AbstractFeatureCache``."""
        new = [name for name in dict.fromkeys(names) if name not in self.places][: self._most - len(self.places)]
        self.places |= {name: place for place, name in enumerate(new, len(self.places))}
        return new

    def put(self, name: str, features: Iterable[Tensor]) -> None:
        """See ``AbstractFeatureCache``."""
        self._kept[self.places[name]] = tuple(features)

    def get(self, places: Int64[Tensor, "images"]) -> tuple[Tensor, ...]:
        """See ``AbstractFeatureCache``."""
        found = [self._kept[place] for place in places.tolist()]
        return found[0] if len(found) == 1 else tuple(map(_joined, zip(*found, strict=True)))


def _joined(features: Sequence[Tensor]) -> Tensor:
    """(1, L, d, h, w) each to (N, L, d, h, w), channels side by side as they were."""
    return torch.cat([x.permute(0, 1, 3, 4, 2) for x in features]).permute(0, 1, 4, 2, 3)


class FeatureFile(AbstractFeatureCache):
    """Features in a memory-mapped file, where later runs and other processes find them.

    The file is as long as all images' features, but takes room only for those that were computed. A checksum stands before
    each; what does not fit it (never written, half written, damaged) counts as absent. One process at a time computes.

    Args:
        folder: of the file.
        identity: what tells data set, image size, backbone, weights and precision from any other.
        names: all images of the data set.
        blocks: what the backbone gives for an image.

    Raises:
        DataError: the folder cannot be written.
    """

    def __init__(
        self, folder: str, identity: Sequence[str | int], names: Collection[str], blocks: Sequence[FeatureShape]
    ) -> None:
        self._blocks = blocks
        order = sorted(set(names))
        self._all = {name: place for place, name in enumerate(order)}
        self.places = {}
        self._record = -(-(_HEAD + sum(block.size for block in blocks)) // _HEAD) * _HEAD
        described = [*identity, torch.__version__, [[*block.shape, str(block.dtype)] for block in blocks], order]
        key = hashlib.sha256(json.dumps(described).encode()).hexdigest()
        self._path = Path(folder).expanduser() / f"features-{key[:32]}.bin"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.truncate(len(order) * self._record)
            self._bytes = np.memmap(self._path, np.uint8, "r+", shape=(len(order), self._record))
        except OSError as error:
            raise self._failed(error) from error
        self.lock = FileLock(self._path.with_suffix(".lock"))
        """To be held from ``absent`` to the last ``put``."""

    def absent(self, names: Collection[str]) -> list[str]:
        """See ``AbstractFeatureCache``."""
        self.places |= {name: self._all[name] for name in names}
        wanted = [*dict.fromkeys(names)]
        new = [name for name in wanted if not self._whole(self._all[name])]
        needed, free = len(new) * self._record, shutil.disk_usage(self._path.parent).free
        log.info(
            "data.feature_cache: %d images of %.1f MB = %.0f MB in %s; %d of them are there, %.0f MB to be written",
            len(wanted), self._record / _MB, len(wanted) * self._record / _MB, self._path,
            len(wanted) - len(new), needed / _MB,
        )  # fmt: skip
        if needed > free:
            raise DataError(
                f"data.feature_cache={self._path.parent}: the features need {needed / _MB:.0f} MB more, "
                f"{free / _MB:.0f} MB are left; make room, give another folder, or leave data.feature_cache=null"
            )
        return new

    def put(self, name: str, features: Iterable[Tensor]) -> None:
        """See ``AbstractFeatureCache``; takes the room on the disk first, so that a full one is an error."""
        place = self._all[name]
        try:
            with self._path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), place * self._record, self._record)
        except OSError as error:
            raise self._failed(error) from error
        for room, x in zip(self._views(place), features, strict=True):
            room.copy_(x[0].permute(0, 2, 3, 1))
        self._bytes[place, :4] = np.frombuffer(_checksum(self._bytes[place, _HEAD:].data), np.uint8)

    def get(self, places: Int64[Tensor, "images"]) -> tuple[Tensor, ...]:
        """See ``AbstractFeatureCache``."""
        found = [self._views(place) for place in places.tolist()]
        return tuple(torch.stack(block).permute(0, 1, 4, 2, 3) for block in zip(*found, strict=True))

    def _views(self, place: int) -> list[Tensor]:
        """A record's features (L, h, w, d) of every block, where they lie in the file."""
        record, start, views = torch.from_numpy(self._bytes[place]), _HEAD, []
        for block in self._blocks:
            views.append(record[start : start + block.size].view(block.dtype).view(block.shape))
            start += block.size
        return views

    def _whole(self, place: int) -> bool:
        """Whether a record fits its checksum; read without the map, which may take room even for holes."""
        with self._path.open("rb", buffering=0) as file:
            file.seek(place * self._record)
            head = file.read(_HEAD)
            return any(head[:4]) and head[:4] == _checksum(file.read(self._record - _HEAD))

    def _failed(self, error: OSError) -> DataError:
        return DataError(
            f"data.feature_cache={self._path.parent}: {error}; "
            "make room, give another folder, or leave data.feature_cache=null"
        )


def _checksum(record: bytes | memoryview) -> bytes:
    return (zlib.crc32(record) or 1).to_bytes(4, "little")  # never that of a hole
