"""Features of images that a frozen backbone need compute only once: in memory for a test, in a file for training.

What is read back equals what was computed to the last bit, so a cache changes no result; nothing is ever driven out.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from io import FileIO
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Float
from torch import Tensor

from mshnet_pl.errors import DataError
from mshnet_pl.utils.hashing import checksum
from mshnet_pl.utils.places import given_place

log = logging.getLogger(__name__)

_MB = 2**20
_HEAD = 64  # bytes before a record's features: the checksum, and what keeps them aligned
_CHECKSUM = "CRC-32 of file, image id, name and features"

Features = tuple[Tensor, ...]
"""(N, L, d, h, w) of every block, channels of a pixel side by side: what a backbone gives for N images."""


class FeatureShape(NamedTuple):
    """What the backbone gives for a block of one image."""

    shape: tuple[int, int, int, int]
    """Layers, height, width, channels: as they lie in memory."""
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """In bytes."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


class FeatureMemory:
    """Features of images by id in memory, on the device that computed them.

    Args:
        blocks: what the backbone gives for an image.
        megabytes: budget in units of 2**20 bytes; images beyond it are not kept.
    """

    lock: AbstractContextManager[Any] = nullcontext()
    """To be held from ``absent`` to the last ``put``, so that one process at a time computes."""

    def __init__(self, blocks: Sequence[FeatureShape], megabytes: int) -> None:
        self._max_images = megabytes * _MB // sum(block.size for block in blocks)
        self._kept: dict[int, Features] = {}

    def absent(self, ids: Sequence[int]) -> list[int]:
        """Those of ``ids`` whose features are to be computed, as far as there is room."""
        return [i for i in dict.fromkeys(ids) if i not in self][: self._max_images - len(self._kept)]

    def put(self, image_id: int, features: Features) -> None:
        """Keep one image's features, (1, L, d, h, w) of every block."""
        self._kept[image_id] = features

    def __contains__(self, image_id: object) -> bool:
        """Whether the image's features are kept for this process."""
        return image_id in self._kept

    def get(self, ids: Sequence[int], compute: Callable[[int], Features] | None = None) -> Features:
        """The features of N images that are kept, where they were computed; none is ever damaged."""
        return join([self._kept[i] for i in ids])

    def __deepcopy__(self, memo: dict[int, object]) -> "FeatureMemory":
        """Itself: a copy of what reads from it, as averages of weights are, reads the same features."""
        return self


class FeatureFile:
    """Features in a file, where later runs and other processes find them.

    The file is as long as all images' features, but takes room only for those that were computed. A checksum of file, id,
    name and features stands before each; a record that does not fit it when it is read is computed and written anew.

    Args:
        folder: of the file.
        identity: what tells data set, image size, backbone, weights and precision from any other.
        names: all images of the data set, by id.
        blocks: what the backbone gives for an image.

    Raises:
        ConfigError: see ``given_place``.
        DataError: the folder cannot be written.
    """

    def __init__(
        self, folder: str, identity: Sequence[str | int], names: Sequence[str], blocks: Sequence[FeatureShape]
    ) -> None:
        self._names, self._blocks = names, blocks
        self._kept: set[int] = set()
        self._record = -(-(_HEAD + sum(block.size for block in blocks)) // _HEAD) * _HEAD
        shapes = [[*block.shape, str(block.dtype)] for block in blocks]
        described = [*identity, torch.__version__, _CHECKSUM, shapes, [*names]]
        key = hashlib.sha256(json.dumps(described).encode()).hexdigest()
        self._path = given_place(folder, "data.feature_cache") / f"features-{key[:32]}.bin"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.truncate(len(names) * self._record)
        except OSError as error:
            raise self._failed(error) from error
        self.lock = FileLock(self._path.with_suffix(".lock"))

    def absent(self, ids: Sequence[int]) -> list[int]:
        """As ``FeatureMemory``'s; a record counts as there once it has a checksum.

        Raises:
            DataError: there is no room.
        """
        wanted = [*dict.fromkeys(ids)]
        with self._path.open("rb", buffering=0) as file:
            new = [i for i in wanted if not any(self._head(file, i))]
        self._kept.update(set(wanted).difference(new))
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

    def put(self, image_id: int, features: Features) -> None:
        """Keep one image's features; the checksum is written last.

        Raises:
            DataError: it cannot be written.
        """
        record = [pixels(x)[0].cpu().contiguous() for x in features]
        try:
            with self.lock, self._path.open("r+b") as file:
                file.seek(image_id * self._record + _HEAD)
                file.writelines(map(_bytes, record))
                file.flush()
                file.seek(image_id * self._record)
                file.write(self._checksum(image_id, record))
        except OSError as error:
            raise self._failed(error) from error
        self._kept.add(image_id)

    def __contains__(self, image_id: object) -> bool:
        """Whether the image's features are kept for this process."""
        return image_id in self._kept

    def get(self, ids: Sequence[int], compute: Callable[[int], Features]) -> Features:
        """As ``FeatureMemory``'s, on the CPU; what does not fit its checksum is computed anew."""
        blocks = [torch.empty(len(ids), *block.shape, dtype=block.dtype) for block in self._blocks]
        with self._path.open("rb", buffering=0) as file:
            for row, image_id in enumerate(ids):
                record = [block[row] for block in blocks]
                if self._read(file, image_id, record):
                    continue
                log.warning("%s: the features of %s are damaged; computed anew", self._path, self._names[image_id])
                features = compute(image_id)
                self.put(image_id, features)
                for part, x in zip(record, features, strict=True):
                    part.copy_(pixels(x)[0])
        return tuple(block.permute(0, 1, 4, 2, 3) for block in blocks)

    def __deepcopy__(self, memo: dict[int, object]) -> "FeatureFile":
        """Itself, as ``FeatureMemory``."""
        return self

    def _head(self, file: FileIO, image_id: int) -> bytes:
        """The checksum as it stands in the file; nothing but zeros where no record was written."""
        file.seek(image_id * self._record)
        return file.read(_HEAD)[:4]

    def _read(self, file: FileIO, image_id: int, record: Sequence[Tensor]) -> bool:
        """Fill ``record``, (L, h, w, d) of every block; says whether it fits its checksum."""
        head = self._head(file, image_id)
        for part in record:
            file.readinto(_bytes(part))
        return head == self._checksum(image_id, record)

    def _checksum(self, image_id: int, record: Sequence[Tensor]) -> bytes:
        return checksum(f"{self._path.name} {image_id} {self._names[image_id]}", *map(_bytes, record))

    def _failed(self, error: OSError) -> DataError:
        return DataError(
            f"data.feature_cache={self._path.parent}: {error}; "
            "make room, give another folder, or leave data.feature_cache=null"
        )


FeatureCache = FeatureMemory | FeatureFile


def join(features: Sequence[Features]) -> Features:
    """Features of some images and of others to those of all, channels of a pixel side by side as they were."""
    if len(features) == 1:
        return features[0]
    blocks = zip(*features, strict=True)
    return tuple(torch.cat([pixels(x) for x in block]).permute(0, 1, 4, 2, 3) for block in blocks)


def pixels(x: Float[Tensor, "n layers d h w"]) -> Float[Tensor, "n layers h w d"]:
    """As they lie in memory."""
    return x.permute(0, 1, 3, 4, 2)


def _bytes(x: Tensor) -> memoryview:
    """Those of a contiguous tensor on the CPU, where they lie."""
    return x.flatten().view(torch.uint8).numpy().data
