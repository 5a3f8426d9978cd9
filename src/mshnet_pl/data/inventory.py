"""Every image and mask of a data set read once: what they show, and whether they can be read at all."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from platformdirs import user_cache_dir
from tqdm import tqdm

from mshnet_pl.episode import UNKNOWN
from mshnet_pl.errors import DataError

Areas = dict[str, dict[int, int]]
"""Pixels of every class (0-based) in every image."""


class Files(NamedTuple):
    """An image and its label map: pixel value 0 is background, c + 1 is class c, 255 is unknown."""

    image: Path
    mask: Path


def take_inventory(files: Mapping[str, Files], classes: int, cache_dir: Path | None = None) -> Areas:
    """Decode every image and mask, check them, and count each class's pixels.

    The result is remembered under the files' paths, sizes and modification times: a second start takes a fraction of a
    second, and a changed file is looked at again.

    Args:
        files: the files of every image, by the image's name.
        classes: how many classes a mask may label.
        cache_dir: where results are remembered; the user's cache folder by default.

    Raises:
        DataError: lists every file that is missing or damaged, masks of another size, and unknown labels.
    """
    missing = [f"{path}" for pair in files.values() for path in pair if not path.is_file()]
    if missing:
        raise DataError.listing("files that the split lists name are missing:", missing, "Check data.root and the lists.")
    key = fingerprint(files, classes)
    cache = (cache_dir or Path(user_cache_dir("mshnet_pl"))) / f"inventory-{key[:32]}.json"
    if cache.is_file():
        return {name: {int(c): n for c, n in areas.items()} for name, areas in json.loads(cache.read_text()).items()}
    areas: Areas = {}
    problems: list[str] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without holding the interpreter's lock
        found = pool.map(lambda pair: _look_at(pair, classes), files.values())
        for name, result in zip(files, tqdm(found, "checking images", len(files), leave=False, delay=1), strict=True):
            if isinstance(result, str):
                problems.append(result)
            else:
                areas[name] = result
    if problems:
        raise DataError.listing("files that cannot be used:", problems, "Mend or replace them, or take them off the lists.")
    _remember(cache, areas)
    return areas


def fingerprint(files: Mapping[str, Files], *more: int) -> str:
    """SHA-256 over the files' names, paths, sizes and modification times, and ``more`` that matters."""
    return hashlib.sha256(json.dumps([*more, sorted(_stamp(files))]).encode()).hexdigest()


def _stamp(files: Mapping[str, Files]) -> Sequence[tuple[str, str, int, int]]:
    return [
        (name, str(path.absolute()), (stat := path.stat()).st_size, stat.st_mtime_ns)
        for name, pair in files.items()
        for path in pair
    ]


def _look_at(pair: Files, classes: int) -> dict[int, int] | str:
    """Areas by class, or what is wrong with the pair."""
    try:
        with Image.open(pair.image) as image:
            size = image.size
            image.draft("RGB", (size[0] // 8, size[1] // 8))  # a JPEG is read whole, but decoded small
            image.load()
        mask = read_labels(pair.mask)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"{error}" if str(pair.mask) in str(error) else f"{pair.image}: {error}"
    if mask.shape != size[::-1]:
        return f"{pair.mask}: {mask.shape[1]} x {mask.shape[0]} pixels, but its image has {size[0]} x {size[1]}"
    counts = np.bincount(mask.ravel(), minlength=UNKNOWN + 1)
    unknown = [label for label in counts[:UNKNOWN].nonzero()[0].tolist() if label > classes]
    if unknown:
        return f"{pair.mask}: labels {unknown}, but there are 0 to {classes} and {UNKNOWN} for unknown"
    return {c: int(counts[c + 1]) for c in range(classes) if counts[c + 1]}


def read_labels(path: Path) -> np.ndarray:
    """A label map as (H, W) uint8.

    Raises:
        ValueError: the file cannot be read, or is no 8-bit grayscale or palette image; names it.
    """
    try:
        with Image.open(path) as mask:
            if mask.mode not in ("L", "P"):
                raise ValueError(f"mode {mask.mode}, but a label map is an 8-bit grayscale or palette image")
            return np.asarray(mask)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: {error}") from error


def _remember(cache: Path, areas: Areas) -> None:
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        partial = cache.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(areas))
        partial.replace(cache)
    except OSError:  # a cache that cannot be written costs a minute, not the run
        return
