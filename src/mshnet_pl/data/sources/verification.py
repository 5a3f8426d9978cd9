"""Every image and mask of a data set read once: what they show, and whether they can be read at all."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from platformdirs import user_cache_dir
from tqdm import tqdm

from mshnet_pl.data.io.deep_colours import has_deep_colours
from mshnet_pl.data.io.images import decoding, frame_of, read_image
from mshnet_pl.errors import DataError
from mshnet_pl.options import UNKNOWN
from mshnet_pl.utils.files import write_whole
from mshnet_pl.utils.hashing import checksum, stamp

log = logging.getLogger(__name__)

_FORMAT = "areas after their checksum"
"""Part of an inventory's name on disk; another layout has another one."""
_WHOLE, _ENDS = 2**20, 4096
"""Bytes up to which a file's content counts wholly, and of larger ones at both ends."""
ClassAreas = dict[str, dict[int, int]]
"""Pixels of every class (0-based) in every image."""


class Files(NamedTuple):
    """An image and its mask."""

    image: Path
    mask: Path


class MaskReader(NamedTuple):
    """How a data set's mask files are to be understood."""

    settings: str
    """Says everything that changes what it answers."""
    read: Callable[[str, Path], np.ndarray]
    """The mask of the image of that name as (H, W); a ``ValueError`` names a file that cannot be read."""
    areas: Callable[[str, np.ndarray], dict[int, int]]
    """Pixels of every class in what ``read`` gave; a ``ValueError`` where the mask holds what it may not hold."""
    turned: bool = False
    """Whether images and masks are turned as their EXIF orientation says."""


def label_maps(classes: int) -> MaskReader:
    """Masks that label pixels with c + 1 for class c, 0 for background and 255 for unknown."""

    def areas(_: str, mask: np.ndarray) -> dict[int, int]:
        counts = np.bincount(mask.ravel(), minlength=UNKNOWN + 1)
        unknown = [label for label in counts[:UNKNOWN].nonzero()[0].tolist() if label > classes]
        if unknown:
            raise ValueError(f"labels {unknown}, but there are 0 to {classes} and {UNKNOWN} for unknown")
        return {c: int(counts[c + 1]) for c in range(classes) if counts[c + 1]}

    return MaskReader(f"LabelMaps({classes})", lambda _, path: read_labels(path), areas)


def take_inventory(
    files: Mapping[str, Files],
    classes: int,
    cache_dir: Path | None = None,
    reader: MaskReader | None = None,
    bad: dict[str, str] | None = None,
) -> ClassAreas:
    """Decode every image and mask, check them, and count each class's pixels.

    The result is remembered under the files' paths, sizes and times of change: a second start takes a fraction of a
    second, and a changed file is looked at again, and so is a damaged one.

    Args:
        files: the files of every image, by the image's name.
        classes: how many classes a mask may label.
        cache_dir: where results are remembered; the user's cache folder by default.
        reader: what the masks are; ``label_maps(classes)`` by default.
        bad: takes what is wrong with an image, by its name, instead of an error; these images are left out of the result.

    Raises:
        DataError: lists every file that is missing or damaged, masks of another size, and unknown labels.
    """
    reader = label_maps(classes) if reader is None else reader
    missing = {name: [f"{path}" for path in pair if not path.is_file()] for name, pair in files.items()}
    missing = {name: paths for name, paths in missing.items() if paths}
    if missing and bad is None:
        gone = [path for paths in missing.values() for path in paths]
        raise DataError.listing("files that the split lists name are missing:", gone, "Check data.root and the lists.")
    files = {name: pair for name, pair in files.items() if name not in missing}
    key = fingerprint(files, _FORMAT, reader.settings)
    cache = (cache_dir or Path(user_cache_dir("mshnet_pl"))) / f"inventory-{key[:32]}.json"
    areas = _recall(cache)
    unknown = {name: pair for name, pair in files.items() if name not in areas}
    found: dict[str, str] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without holding the interpreter's lock
        looked = pool.map(lambda item: _look_at(item[0], item[1], reader), unknown.items())
        shown = tqdm(looked, "checking images", len(unknown), leave=False, delay=1)
        for name, result in zip(unknown, shown, strict=True):
            if isinstance(result, str):
                found[name] = result
            else:
                areas[name] = result
    if len(found) < len(unknown):
        _remember(cache, areas)
    if bad is not None:
        bad |= {name: "; ".join(f"{path}: no such file" for path in paths) for name, paths in missing.items()} | found
    elif found:
        way_out = (
            "Mend or replace them, or take them off the lists; or give data.bad_files=skip, which draws episodes without "
            "them and names them in the result."
        )
        raise DataError.listing("files that cannot be used:", [*found.values()], way_out)
    return areas


def fingerprint(files: Mapping[str, Files], *more: str) -> str:
    """SHA-256 over the files' names, paths, sizes and times of change, and ``more`` that matters."""
    stamps = sorted((name, *stamp(path)) for name, pair in files.items() for path in pair)
    return hashlib.sha256(json.dumps([*more, stamps]).encode()).hexdigest()


def content(files: Iterable[tuple[str, Path]]) -> str:
    """SHA-256 over what files are called, their sizes and contents: unlike ``fingerprint`` the same for a copy of them.

    Of files over 1 MiB only both ends are read; compressed formats end otherwise after any change of pixels.
    """
    digest = hashlib.sha256()
    for name, path in files:
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                digest.update(json.dumps([name, size]).encode() + file.read(_WHOLE if size <= _WHOLE else _ENDS))
                if size > _WHOLE:
                    file.seek(size - _ENDS)
                    digest.update(file.read())
        except OSError:
            digest.update(json.dumps([name, None]).encode())
    return digest.hexdigest()


def _look_at(name: str, pair: Files, reader: MaskReader) -> dict[int, int] | str:
    """ClassAreas by class, or what is wrong with the pair."""
    try:
        with decoding(pair.image) as image:
            size, whole = frame_of(image).turned if reader.turned else image.size, image.size
            deep = has_deep_colours(image)
            image.draft("RGB", (whole[0] // 8 or 1, whole[1] // 8 or 1))  # a JPEG is read whole, but decoded small
            image.load()
        if deep or image.mode not in ("RGB", "L"):
            read_image(pair.image, turn=reader.turned)
    except (DataError, ValueError) as error:
        return str(error)
    try:
        mask = reader.read(name, pair.mask)
    except ValueError as error:
        return f"{error}" if str(pair.mask) in str(error) else f"{pair.mask}: {error}"
    if mask.shape != size[::-1]:
        return f"{pair.mask}: {mask.shape[1]} x {mask.shape[0]} pixels, but its image has {size[0]} x {size[1]}"
    try:
        return reader.areas(name, mask)
    except ValueError as error:
        return f"{pair.mask}: {error}"


def read_labels(path: Path) -> np.ndarray:
    """A label map as (H, W) uint8.

    Raises:
        ValueError: the file cannot be read, or is no 8-bit grayscale or palette image; names it.
    """
    with decoding(path) as mask:
        if mask.mode not in ("L", "P"):
            raise ValueError(f"mode {mask.mode}, but a label map is an 8-bit grayscale or palette image")
        return np.asarray(mask)


def _recall(cache: Path) -> ClassAreas:
    if not cache.is_file():
        return {}
    with suppress(OSError):
        head, _, areas = cache.read_bytes().partition(b"\n")
        if head == _seal(cache, areas):
            return {name: {int(c): n for c, n in found.items()} for name, found in json.loads(areas).items()}
    log.warning("%s is damaged; every image is looked at again", cache)
    return {}


def _remember(cache: Path, areas: ClassAreas) -> None:
    with suppress(DataError):  # a cache that cannot be written costs a minute, not the run
        content = json.dumps(areas).encode()
        write_whole(cache, b"\n".join([_seal(cache, content), content]))


def _seal(cache: Path, areas: bytes) -> bytes:
    return checksum(cache.name, areas).hex().encode()
