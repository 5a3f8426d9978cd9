"""Which images make an episode: pure functions of (seed, episode number), the same in any process."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mshnet_pl.data.splits import Pair, by_class
from mshnet_pl.errors import DataError

_EPISODE, _ORDER = 0, 1  # independent streams of one seed


class Draw(NamedTuple):
    """An episode by name."""

    query: str
    supports: tuple[str, ...]
    class_id: int


class Protocol(StrEnum):
    """How test episodes are drawn."""

    published = "published"
    seeded = "seeded"


def shortages(
    names: Mapping[int, Sequence[str]], classes: Sequence[int], shot: int, class_names: Sequence[str]
) -> list[str]:
    """Every class, with its number of images, that lacks ``shot`` supports and another image as query."""
    return [f"{class_names[c]} (class {c}): {len(names.get(c, ()))}" for c in classes if len(set(names.get(c, ()))) <= shot]


def check_supply(names: Mapping[int, Sequence[str]], classes: Sequence[int], shot: int, class_names: Sequence[str]) -> None:
    """Refuse an episode that cannot be drawn.

    Raises:
        DataError: names every class with too few images.
    """
    refuse_shortages(shortages(names, classes, shot, class_names), shot)


def refuse_shortages(problems: Sequence[str], shot: int) -> None:
    """Raise a ``DataError`` of all ``problems`` if there are any."""
    if problems:
        raise DataError.listing(
            f"shot={shot} needs {shot + 1} images a class; these have fewer:",
            problems,
            f"Lower the shot, add images, or leave such classes out with data.min_images={shot + 1}.",
            most=len(problems),
        )


def draw_seeded(names: Mapping[int, Sequence[str]], classes: Sequence[int], shot: int, seed: int, number: int) -> Draw:
    """Episode ``number`` of ``seed``: class, query and supports drawn uniformly, all images distinct."""
    rng = np.random.default_rng((seed, _EPISODE, number))
    class_id = classes[int(rng.integers(len(classes)))]
    return _draw_images(names[class_id], class_id, shot, rng)


def draw_balanced(
    names: Mapping[int, Sequence[str]], classes: Sequence[int], shot: int, seed: int, number: int, per_class: int
) -> Draw:
    """Episode ``number`` of a training stream in which every epoch draws each class ``per_class`` times, shuffled.

    The epoch is ``number // (per_class len(classes))``; images are drawn with replacement between episodes.
    """
    epoch, position = divmod(number, per_class * len(classes))
    class_id = classes[int(_epoch_order(seed, epoch, per_class * len(classes))[position]) % len(classes)]
    return _draw_images(names[class_id], class_id, shot, np.random.default_rng((seed, _EPISODE, number)))


@lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng((seed, _ORDER, epoch)).permutation(length)


def _draw_images(names: Sequence[str], class_id: int, shot: int, rng: np.random.Generator) -> Draw:
    query, *supports = (names[i] for i in rng.choice(len(names), shot + 1, replace=False))
    return Draw(query, tuple(supports), class_id)


def published_walk(
    pairs: Sequence[Pair], shot: int, episodes: int, seed: int = 0, supports: Mapping[int, Sequence[str]] | None = None
) -> list[Draw]:
    """The field's published PASCAL-5i and FSS-1000 test episodes (as in HSNet): walk the list, draw the supports.

    NumPy's legacy generator; query number n is entry ``n % len(pairs)``; supports are drawn one at a time with
    only the query excluded, so that a support can repeat.

    Args:
        pairs: the novel entries of a list, in its order.
        shot: supports of an episode.
        episodes: how many.
        seed: of the generator; 0 as published.
        supports: the images of each class in the order that the generator's numbers mean; by default that of ``pairs``.
    """
    names = by_class(list(pairs)) if supports is None else supports
    rng = np.random.RandomState(seed)
    draws = []
    for number in range(episodes):
        query, class_id = pairs[number % len(pairs)]
        draws.append(Draw(query, tuple(_published_supports(names[class_id], query, shot, rng)), class_id))
    return draws


def published_classwise(pairs: Sequence[Pair], shot: int, episodes: int, seed: int = 0) -> list[Draw]:
    """The field's published COCO-20i test episodes: class, then query, then supports, as in ``published_walk``."""
    names = by_class(list(pairs))
    classes = sorted(names)
    rng = np.random.RandomState(seed)
    draws = []
    for _ in range(episodes):
        class_id = int(rng.choice(classes, 1, replace=False)[0])
        query = _choice(names[class_id], rng)
        draws.append(Draw(query, tuple(_published_supports(names[class_id], query, shot, rng)), class_id))
    return draws


def _published_supports(names: Sequence[str], query: str, shot: int, rng: np.random.RandomState) -> Iterator[str]:
    found = 0
    while found < shot:
        support = _choice(names, rng)
        if support != query:
            found += 1
            yield support


def _choice(names: Sequence[str], rng: np.random.RandomState) -> str:
    return names[int(rng.choice(len(names), 1, replace=False)[0])]


def episodes_hash(draws: Sequence[Draw]) -> str:
    """SHA-256 that identifies a set of episodes: of the JSON ``[[query, [supports], class_id], ...]``."""
    return hashlib.sha256(json.dumps([[d.query, list(d.supports), d.class_id] for d in draws]).encode()).hexdigest()
