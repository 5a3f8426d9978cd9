"""Control episodes: is it the supports that decide what is segmented? Pure functions, as ``sampling``'s."""

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

import numpy as np

from mshnet_pl.data.protocol.sampling import Draw, Draws
from mshnet_pl.errors import DataError

_CONTROL = 5  # an independent stream of a seed, beside the sampling's, the augmentation's and the marks'


def other_class(episodes: Sequence[Draws], contents: Mapping[str, Collection[int]]) -> list[Draws]:
    """The same queries, shown the supports of a class that they do not show; what is right stays what it was.

    The supports are those of the next episode whose class is not in the query, and whose supports do not show the query's
    class. After the last episode comes the first.

    Raises:
        DataError: there is no such episode.
    """
    made: list[Draws] = []
    for number, (own,) in enumerate(episodes):
        shown = {own.class_id, *contents[own.query]}
        for (other,) in (*episodes[number + 1 :], *episodes[:number]):
            if other.class_id not in shown and not any(own.class_id in contents[name] for name in other.supports):
                made.append((Draw(own.query, other.supports, own.class_id, shown=other.class_id),))
                break
        else:
            raise DataError(
                f"test.controls: {own.query} has no supports of a class that it does not show among {len(episodes)} "
                "episodes; give a larger test.controls (and at least as many test.episodes), or 0"
            )
    return made


def which_of_two(
    contents: Mapping[str, Collection[int]],
    names: Mapping[int, Sequence[str]],
    tested: Sequence[int],
    shot: int,
    seed: int,
    queries: int,
) -> list[Draws]:
    """Queries that show two classes, each asked for in turn; what shows neither is unknown.

    At least one of the two is tested. Supports show one of the two alone.

    Args:
        contents: the classes of every image.
        names: images by class that may be queries and supports.
        tested: the fold's classes.
        shot: supports of a class.
        seed: of the draws.
        queries: at most so many images with a pair of classes, chosen at random; an episode for each of the two.
    """
    pairs = [
        (name, pair)
        for name in sorted({name for c in tested for name in names.get(c, ())})
        for pair in combinations(sorted(c for c in contents[name] if name in names.get(c, ())), 2)
        if not set(pair).isdisjoint(tested)
    ]
    rng = np.random.default_rng((seed, _CONTROL))
    made: list[Draws] = []
    for place in rng.permutation(len(pairs)):
        query, pair = pairs[place]
        alone = {c: sorted({n for n in names[c] if n != query and {*pair}.intersection(contents[n]) == {c}}) for c in pair}
        if min(map(len, alone.values())) < shot:
            continue
        for c in pair:
            supports = tuple(alone[c][i] for i in rng.choice(len(alone[c]), shot, replace=False))
            made.append((Draw(query, supports, c, among=pair),))
        if len(made) == 2 * queries:
            break
    return made
