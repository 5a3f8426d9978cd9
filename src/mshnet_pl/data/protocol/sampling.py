"""Which images make an episode: pure functions of (seed, episode number), the same in any process."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from mshnet_pl.data.protocol.split_lists import Pair, by_class
from mshnet_pl.errors import DataError

_EPISODE, _ORDER, _REPLACED = 0, 1, 3  # independent streams of one seed; 2 is the augmentation's


class Draw(NamedTuple):
    """The images of an episode and one of its classes, by name."""

    query: str
    supports: tuple[str, ...]
    class_id: int
    """What is right to segment."""
    shown: int | None = None
    """The class that supports show, where it is another one; see ``controls``."""
    among: tuple[int, ...] = ()
    """Where given, the query's pixels of no class of these are unknown."""


Draws = tuple[Draw, ...]
"""An N-way episode: one query, which shows the first class, and the supports of N classes."""


def images_needed(shot: int, way: int = 1) -> int:
    """How many images every class must have: all of an episode's are distinct, and classes may share images."""
    return shot * way + 1


def shortages(
    names: Mapping[int, Sequence[str]], classes: Sequence[int], shot: int, class_names: Sequence[str], way: int = 1
) -> dict[int, str]:
    """By class with too few images, how many it has, in words.

    Raises:
        DataError: there are fewer classes than ``way``.
    """
    if way > len(classes):
        raise DataError(f"way={way}: there are only {len(classes)} classes to draw from; lower the way")
    counts = {c: len(set(names.get(c, ()))) for c in classes}
    return {c: f"{class_names[c]} (class {c}): {n}" for c, n in counts.items() if n < images_needed(shot, way)}


def check_supply(
    names: Mapping[int, Sequence[str]], classes: Sequence[int], shot: int, class_names: Sequence[str], way: int = 1
) -> None:
    """Refuse an episode that cannot be drawn.

    Raises:
        DataError: names every class with too few images, or says that there are fewer classes than ``way``.
    """
    refuse_shortages([*shortages(names, classes, shot, class_names, way).values()], shot, way)


def refuse_shortages(problems: Sequence[str], shot: int, way: int = 1, way_out: str = "") -> None:
    """Raise a ``DataError`` of all ``problems`` if there are any; ``way_out`` is a sentence that the data set adds."""
    if problems:
        ways = f", way={way}" if way > 1 else ""
        needed = images_needed(shot, way)
        raise DataError.listing(
            f"shot={shot}{ways} needs {needed} images a class; these have fewer:",
            problems,
            f"{way_out}Lower the shot, add images, or leave such classes out with data.min_images={needed}.",
            limit=len(problems),
        )


def draw_seeded(
    names: Mapping[int, Sequence[str]], classes: Sequence[int], shot: int, seed: int, number: int, way: int = 1
) -> Draws:
    """Episode ``number`` of ``seed``: class, query and supports drawn uniformly, all images distinct."""
    rng = np.random.default_rng((seed, _EPISODE, number))
    return _draw_images(names, classes, classes[int(rng.integers(len(classes)))], shot, way, rng)


def draw_balanced(
    names: Mapping[int, Sequence[str]],
    classes: Sequence[int],
    shot: int,
    seed: int,
    number: int,
    per_class: int,
    way: int = 1,
) -> Draws:
    """Episode ``number`` of a training stream in which every epoch draws each class ``per_class`` times, shuffled.

    The epoch is ``number // (per_class len(classes))``; images are drawn with replacement between episodes.
    """
    epoch, position = divmod(number, per_class * len(classes))
    class_id = classes[int(_epoch_order(seed, epoch, per_class * len(classes))[position]) % len(classes)]
    return _draw_images(names, classes, class_id, shot, way, np.random.default_rng((seed, _EPISODE, number)))


@lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, length: int) -> np.ndarray:
    return np.random.default_rng((seed, _ORDER, epoch)).permutation(length)


def _draw_images(
    names: Mapping[int, Sequence[str]],
    classes: Sequence[int],
    class_id: int,
    shot: int,
    way: int,
    rng: np.random.Generator,
) -> Draws:
    """A query of ``class_id`` with its supports, then supports of ``way - 1`` further classes; all images distinct."""
    query, *supports = (names[class_id][i] for i in rng.choice(len(names[class_id]), shot + 1, replace=False))
    draws = [Draw(query, tuple(supports), class_id)]
    others = [c for c in classes if c != class_id]
    used = {query, *supports}
    for i in rng.choice(len(others), way - 1, replace=False) if way > 1 else ():
        free = [name for name in names[others[i]] if name not in used]
        supports = [free[j] for j in rng.choice(len(free), shot, replace=False)]
        used.update(supports)
        draws.append(Draw(query, tuple(supports), others[i]))
    return tuple(draws)


def without(names: Mapping[int, Sequence[str]], seed: int, draws: Draws, number: int, bad: Collection[str]) -> Draws:
    """Episode ``number`` of ``seed`` itself, or, if it has an image of ``bad``, the episode in its place.

    That has the same classes, and of each the first images of a shuffled list that are not bad: whichever of the bad images
    are known beforehand, in whichever process, the outcome is the same once those that are met are known.

    Raises:
        DataError: too few images are left.
    """
    if not any(name in bad for draw in draws for name in (draw.query, *draw.supports)):
        return draws
    rng = np.random.default_rng((seed, _REPLACED, number))
    query, used = "", set(bad)
    made: list[Draw] = []
    for draw in draws:
        listed = names[draw.class_id]
        free = [name for name in dict.fromkeys(listed[i] for i in rng.permutation(len(listed))) if name not in used]
        wanted = len(draw.supports) + (not made)
        if len(free) < wanted:
            raise DataError(f"{wanted - len(free)} images too few are left of class {draw.class_id} without the bad ones")
        query, supports = (query, free[:wanted]) if made else (free[0], free[1:wanted])
        used |= {query, *supports}
        made.append(Draw(query, tuple(supports), draw.class_id))
    return tuple(made)


def refuse_bad(episodes: Sequence[Draws], bad: Mapping[str, str]) -> None:
    """Refuse published episodes that cannot be tested as they are.

    Raises:
        DataError: says what is wrong with the bad images among theirs.
    """
    missed = {name for draws in episodes for draw in draws for name in (draw.query, *draw.supports) if name in bad}
    if missed:
        raise DataError.listing(
            "the published test episodes need images that cannot be used:",
            [bad[name] for name in sorted(missed)],
            "Mend or replace them, or take test.protocol=seeded, which goes without them.",
        )


def published_walk(
    pairs: Sequence[Pair], shot: int, episodes: int, seed: int = 0, supports: Mapping[int, Sequence[str]] | None = None
) -> list[Draws]:
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
    draws: list[Draws] = []
    for number in range(episodes):
        query, class_id = pairs[number % len(pairs)]
        draws.append((Draw(query, tuple(_published_supports(names[class_id], query, shot, rng)), class_id),))
    return draws


def published_classwise(pairs: Sequence[Pair], shot: int, episodes: int, seed: int = 0) -> list[Draws]:
    """The field's published COCO-20i test episodes: class, then query, then supports, as in ``published_walk``."""
    names = by_class(list(pairs))
    classes = sorted(names)
    rng = np.random.RandomState(seed)
    draws: list[Draws] = []
    for _ in range(episodes):
        class_id = int(rng.choice(classes, 1, replace=False)[0])
        query = _choice(names[class_id], rng)
        draws.append((Draw(query, tuple(_published_supports(names[class_id], query, shot, rng)), class_id),))
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


def episodes_json(episodes: Sequence[Draws]) -> bytes:
    """The JSON ``[[query, [supports], class_id], ...]``, class by class, of a set of episodes."""
    return json.dumps([[draw.query, list(draw.supports), draw.class_id] for draws in episodes for draw in draws]).encode()


def episodes_hash(episodes: Sequence[Draws]) -> str:
    """SHA-256 of ``episodes_json``, which identifies a set of episodes."""
    return hashlib.sha256(episodes_json(episodes)).hexdigest()
