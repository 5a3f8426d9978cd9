"""Which images a test's episodes are made of: the file that a run writes, or one that stands above several runs."""

import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int64

from mshnet_pl.errors import DataError
from mshnet_pl.results import EPISODE_IMAGES

MIN_IMAGES = 100
"""Fewer distinct query images make an interval a rough one."""


@dataclass(frozen=True, eq=False)
class EpisodeImages:
    """The images of N-way episodes by name; a row an episode and class, in the order of the episodes."""

    query: tuple[str, ...]
    supports: tuple[tuple[str, ...], ...]
    class_id: tuple[int, ...]
    way: int

    def first(self, episodes: int) -> "EpisodeImages":
        """Those of the first episodes alone."""
        kept = slice(episodes * self.way)
        return EpisodeImages(self.query[kept], self.supports[kept], self.class_id[kept], self.way)

    @cached_property
    def episode(self) -> Int64[np.ndarray, "rows"]:
        """Number of every row's episode."""
        return np.arange(len(self.query)) // self.way

    def fits(self, classes: Int64[np.ndarray, "C"], present: Bool[np.ndarray, "N C"]) -> bool:
        """Whether these are the classes of the episodes: numbers in ascending order, and which of them each episode has."""
        stated = np.zeros_like(present)
        known = np.isin(self.class_id, classes)
        stated[self.episode[known], np.searchsorted(classes, np.array(self.class_id)[known])] = True
        return bool(known.all()) and np.array_equal(stated, present)

    @cached_property
    def single(self) -> frozenset[int]:
        """Classes with a single query image: nothing says how their scores vary by image."""
        images = Counter(class_id for class_id, _ in {*zip(self.class_id, self.query, strict=True)})
        return frozenset(class_id for class_id, count in images.items() if count == 1)

    @cached_property
    def queries(self) -> frozenset[str]:
        """Distinct query images."""
        return frozenset(self.query)

    @cached_property
    def support_images(self) -> frozenset[str]:
        """Distinct support images."""
        return frozenset(name for names in self.supports for name in names)


class Behind(NamedTuple):
    """How many distinct images stand behind a score."""

    queries: int
    supports: int

    @classmethod
    def of(cls, tests: Iterable[EpisodeImages]) -> "Behind":
        """Those of some tests together."""
        tests = list(tests)
        return cls(
            *(len(frozenset().union(*sets)) for sets in zip(*((t.queries, t.support_images) for t in tests), strict=True))
        )

    def __str__(self) -> str:
        """In words."""
        return f"{self.queries} queries, {self.supports} supports"


def few(folds: Iterable[tuple[int | str, Behind]]) -> list[str]:
    """A warning where a fold has too few images for an interval to be more than a rough one."""
    found = [f"fold {fold} ({behind.queries})" for fold, behind in folds if behind.queries < MIN_IMAGES]
    return [f"fewer than {MIN_IMAGES} distinct query images: {', '.join(found)}; intervals are rough"] if found else []


def single(folds: Iterable[tuple[int | str, EpisodeImages]], lacking: str = "no interval") -> list[str]:
    """What is lacking where a class has a single query image, and the way out; nothing where none has."""
    most: dict[int | str, tuple[int, int]] = {}
    for fold, images in folds:
        most[fold] = max(most.get(fold, (0, 0)), (len(images.single), len({*images.class_id})))
    ordered = sorted(most.items(), key=lambda one: (isinstance(one[0], str), one[0]))
    found = [f"fold {fold} ({count} of {classes} classes)" for fold, (count, classes) in ordered if count]
    why = f"{lacking} where a class has a single query image"
    return [f"{why}: {', '.join(found)}; test more episodes (test.episodes)"] if found else []


def find(folder: Path, episodes_hash: str, episodes: int) -> EpisodeImages | None:
    """The images of a result's episodes, from its own folder or the nearest one above that has them.

    Args:
        folder: the result's.
        episodes_hash: SHA-256 of the episodes, which the file's content must have.
        episodes: how many there are.

    Raises:
        DataError: a damaged file.
    """
    name = EPISODE_IMAGES.format(episodes_hash)
    path = next((path for place in (folder, *folder.parents) if (path := place / name).is_file()), None)
    return None if path is None else _read(path, episodes_hash, episodes)


@lru_cache(maxsize=1024)
def _read(path: Path, episodes_hash: str, episodes: int) -> EpisodeImages:
    try:
        content = gzip.decompress(path.read_bytes())
        if hashlib.sha256(content).hexdigest() != episodes_hash:
            raise ValueError("its content has another SHA-256 than its name")
        query, supports, class_id = zip(*json.loads(content), strict=True)
        names = [*query, *(name for own in supports for name in own)]
        if {*map(type, names)} != {str} or {*map(type, class_id)} != {int} or len({*map(len, supports)}) != 1:
            raise ValueError("expected rows of a query's name, as many supports' names, and a class's number")
        way, rest = divmod(len(query), episodes)
        if rest:
            raise ValueError(f"{len(query)} rows are not those of {episodes} episodes")
    except (OSError, EOFError, zlib.error, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path} does not hold the images of episodes: {error}; move it away") from error
    return EpisodeImages(query, tuple(map(tuple, supports)), class_id, way)
