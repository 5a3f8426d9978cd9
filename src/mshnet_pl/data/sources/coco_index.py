"""COCO's instance annotations as arrays on disk: parsed once, then mapped into memory and shared by every process."""

import hashlib
import json
import logging
import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, Int64, UInt8
from platformdirs import user_cache_dir
from pycocotools import mask as rle_tools

from mshnet_pl.data.io.images import check_size
from mshnet_pl.data.io.rle import encode, is_crowd
from mshnet_pl.errors import DataError
from mshnet_pl.utils.files import whole_path
from mshnet_pl.utils.hashing import checksum, stamp

log = logging.getLogger(__name__)

_FORMAT = 2
"""Part of an index's name on disk; another layout has another number."""
_MAX_ID = 10**12
_CHECKSUM = "checksum"
"""File with that of the arrays."""
_MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
"""What code meets in JSON that is not of the expected form."""


class _Arrays(NamedTuple):
    """I images by ascending id; P pairs of an image and a class that it shows, by image; B bytes.

    Image i has the pairs ``first_pair[i]`` to ``first_pair[i + 1] - 1``; pair p's mask is the compressed run-length
    encoding ``counts[first_byte[p] : first_byte[p + 1]]``: the union of its instances.
    """

    image_id: Int64[np.ndarray, "I"]
    height: Int32[np.ndarray, "I"]
    width: Int32[np.ndarray, "I"]
    first_pair: Int64[np.ndarray, "I+1"]
    pair_class: UInt8[np.ndarray, "P"]
    pair_area: Int32[np.ndarray, "P"]
    first_byte: Int64[np.ndarray, "P+1"]
    counts: UInt8[np.ndarray, "B"]


class CocoIndex:
    """The images of one ``instances_*.json`` and, for each, the united mask of every class; crowds are left out.

    A pickled index holds its folder's name only: a worker process maps the same files.

    Args:
        arrays: see ``_Arrays``.
        folder: where the arrays are mapped from; None if they are in memory.
    """

    def __init__(self, arrays: _Arrays, folder: Path | None = None) -> None:
        self._arrays, self._folder = arrays, folder

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        """See ``pickle``."""
        return (CocoIndex, (self._arrays,)) if self._folder is None else (_mapped, (self._folder,))

    def image_ids(self) -> list[int]:
        """The ids of all images, ascending."""
        return self._arrays.image_id.tolist()

    def __contains__(self, image_id: int) -> bool:
        """Whether there is such an image."""
        at = int(np.searchsorted(self._arrays.image_id, image_id))
        return at < len(self._arrays.image_id) and int(self._arrays.image_id[at]) == image_id

    def size(self, image_id: int) -> tuple[int, int]:
        """Width and height of an image."""
        at = self._find(image_id)
        return int(self._arrays.width[at]), int(self._arrays.height[at])

    def shown(self) -> Iterator[tuple[int, list[int]]]:
        """Every image's id with the classes (0-based) that have at least one pixel in it."""
        arrays = self._arrays
        visible = np.flatnonzero(arrays.pair_area)
        classes = arrays.pair_class[visible].tolist()
        bounds = np.searchsorted(visible, arrays.first_pair).tolist()
        for image_id, start, end in zip(self.image_ids(), bounds, bounds[1:], strict=False):
            yield image_id, classes[start:end]

    def large(self, area: int) -> list[tuple[int, int]]:
        """Ids and classes of all images in which a class covers at least ``area`` pixels; by class, then by id."""
        arrays = self._arrays
        found = np.flatnonzero(arrays.pair_area >= area)
        found = found[np.argsort(arrays.pair_class[found], kind="stable")]
        owners = arrays.image_id[np.searchsorted(arrays.first_pair, found, side="right") - 1]
        return list(zip(owners.tolist(), arrays.pair_class[found].tolist(), strict=True))

    def mask(self, image_id: int, classes: Collection[int]) -> UInt8[np.ndarray, "height width"]:
        """1 where an instance of one of ``classes`` is, 0 elsewhere."""
        at = self._find(image_id)
        width, height = self.size(image_id)
        starts = self._arrays.first_byte
        encodings = [
            {"size": [height, width], "counts": self._arrays.counts[int(starts[p]) : int(starts[p + 1])].tobytes()}
            for p in range(int(self._arrays.first_pair[at]), int(self._arrays.first_pair[at + 1]))
            if int(self._arrays.pair_class[p]) in classes
        ]
        if not encodings:
            return np.zeros((height, width), np.uint8)
        return np.ascontiguousarray(rle_tools.decode(rle_tools.merge(encodings)))

    def _find(self, image_id: int) -> int:
        if image_id not in self:
            raise KeyError(image_id)
        return int(np.searchsorted(self._arrays.image_id, image_id))


def open_index(path: Path, classes: int, cache_dir: Path | None = None) -> CocoIndex:
    """The index of an ``instances_*.json``, made at the first call and mapped from disk at later ones.

    It is remembered under the file's path, size and times of change; a changed file is parsed anew.

    Args:
        path: the JSON.
        classes: how many categories it must have; class c is the one with the c-th smallest id.
        cache_dir: where indices are kept; the user's cache folder by default.

    Raises:
        DataError: the file is missing, cut off or malformed; names the first part that is.
    """
    if not path.is_file():
        raise DataError(f"annotations {path} are missing; give the folder with annotations/ as data.root")
    key = json.dumps([_FORMAT, classes, *stamp(path)])
    folder = (cache_dir or Path(user_cache_dir("mshnet_pl"))) / f"coco-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
    if folder.is_dir():
        try:
            return _mapped(folder)
        except DataError as error:
            log.warning("%s; made anew", error)
            shutil.rmtree(folder, ignore_errors=True)
    arrays = _build(path, classes)
    return _mapped(folder) if _save(arrays, folder) else CocoIndex(arrays)


def _mapped(folder: Path) -> CocoIndex:
    """The index in a folder.

    Raises:
        DataError: it is damaged, or another one's.
    """
    try:
        whole = (folder / _CHECKSUM).read_bytes() == _checksum(folder, folder)
    except (OSError, ValueError):  # files that are gone, or empty
        whole = False
    if not whole:
        raise DataError(f"{folder} is damaged")
    files = (folder / f"{name}.npy" for name in _Arrays._fields)
    return CocoIndex(_Arrays(*(np.load(file, mmap_mode="r", allow_pickle=False) for file in files)), folder)


def _checksum(folder: Path, files: Path) -> bytes:
    """That of the arrays in ``files``, which are to be the index ``folder``."""
    content = (np.memmap(files / f"{name}.npy", np.uint8, "r").data for name in _Arrays._fields)
    return checksum(folder.name, *content)


def _save(arrays: _Arrays, folder: Path) -> bool:
    """Write all arrays, then name them; False where the folder cannot be written, which costs time at the next start."""
    with suppress(DataError), whole_path(folder) as partial:
        partial.mkdir()
        for name, array in arrays._asdict().items():
            np.save(partial / f"{name}.npy", array)
        (partial / _CHECKSUM).write_bytes(_checksum(folder, partial))
    return folder.is_dir()  # another process may have been first


def _build(path: Path, classes: int) -> _Arrays:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no valid JSON: {error}; it may be cut off, so download it again") from error
    try:
        sizes = {int(image["id"]): (int(image["height"]), int(image["width"])) for image in document["images"]}
        names = {int(image["id"]): str(image["file_name"]) for image in document["images"]}
        ids = sorted(int(category["id"]) for category in document["categories"])
        shown = [a for a in document["annotations"] if not is_crowd(a)]
        shown.sort(key=lambda a: (a["image_id"], a["category_id"]))
    except _MALFORMED as error:
        raise DataError(
            f"{path} is not of COCO's form ({type(error).__name__}: {error}); "
            "it needs images, annotations and categories as in instances_train2014.json"
        ) from error
    if len(ids) != classes or len(set(ids)) != classes:
        raise DataError(f"{path} has {len(set(ids))} categories, but COCO-20i has {classes}; take the original file")
    if len(sizes) != len(document["images"]):
        raise DataError(f"{path}: {len(document['images']) - len(sizes)} image ids occur twice; take the original file")
    for image_id, (height, width) in sizes.items():
        try:
            check_size(width, height)
        except ValueError as error:
            raise DataError(f"{path}: image {image_id}: {error}") from error
    odd = [f"{name!r} (id {i})" for i, name in names.items() if i >= _MAX_ID or not name.endswith(f"{i:012d}.jpg")]
    if odd:
        raise DataError.listing(f"{path}: file names that do not end in their id:", odd, "Take the original file.")
    del document
    return _unite(path, sizes, {category_id: c for c, category_id in enumerate(ids)}, shown)


def _unite(path: Path, sizes: dict[int, tuple[int, int]], class_of: dict[int, int], shown: list[dict[str, Any]]) -> _Arrays:
    """One encoding for every image and class, from annotations sorted by both."""
    pairs: list[tuple[int, int, int]] = []
    encodings: list[bytes] = []
    problems: list[str] = []
    for (image_id, category_id), group in groupby(shown, lambda a: (a["image_id"], a["category_id"])):
        parts = []
        for annotation in group:
            try:
                class_id = class_of[category_id]
                parts.append(encode(annotation["segmentation"], *sizes[image_id]))
            except _MALFORMED as error:
                where = f"annotation {annotation.get('id')} (image {image_id}, category {category_id})"
                problems.append(f"{where}: {type(error).__name__}: {error}")
        if parts and not problems:
            united = rle_tools.merge(parts)
            pairs.append((image_id, class_id, int(rle_tools.area(united))))
            encodings.append(united["counts"])
    if problems:
        raise DataError.listing(f"{path}: annotations that cannot be used:", problems, "Take the original file, or mend it.")
    image_ids = sorted(sizes)
    owner, pair_class, pair_area = np.array(pairs, np.int64).reshape(-1, 3).T
    return _Arrays(
        image_id=np.array(image_ids, np.int64),
        height=np.array([sizes[i][0] for i in image_ids], np.int32),
        width=np.array([sizes[i][1] for i in image_ids], np.int32),
        first_pair=np.searchsorted(owner, [*image_ids, np.iinfo(np.int64).max]).astype(np.int64),
        pair_class=pair_class.astype(np.uint8),
        pair_area=pair_area.astype(np.int32),
        first_byte=np.cumsum([0, *map(len, encodings)], dtype=np.int64),
        counts=np.frombuffer(b"".join(encodings), np.uint8),
    )
