"""How often 95% intervals and permutation tests err, over simulated tests and by calculation, as Markdown.

Run with ``PYTHONPATH=tests python experiments/interval_coverage.py``; ``tests/image_worlds.py`` says what is simulated.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product

import numpy as np

from image_worlds import CLASSES, World, alarm, covers, expected_miou, level, simulate
from mshnet_pl.report.bootstrap import fold_influence
from mshnet_pl.report.counts import MIOU, pooled
from mshnet_pl.report.formats import aligned

WORLDS = [
    *(World(n, 1000, shot, training=0.02 * (k > 1), trainings=k) for k, shot, n in product((1, 3), (1, 5), (24, 75))),
    *(World(n, 1000, shot, support=0.15) for shot, n in product((1, 5), (24, 75))),
]
RATIOS = (0.1, 0.5, 1, 2, 4, 10)


def covers_by_episode(world: World, seed: int) -> bool:
    """Whether an interval that draws episodes as if they were independent holds the truth."""
    counts = simulate(world, seed).counts[0]
    weights = np.random.default_rng(seed).multinomial(world.episodes, np.full(world.episodes, 1 / world.episodes), size=500)
    low, high = np.percentile(pooled(counts, weights).miou, [2.5, 97.5])
    return bool(low <= expected_miou() <= high)


def alarm_by_query(world: World, seed: int) -> bool:
    """Whether swaps by query image alone tell equally good methods apart."""
    ((test,), *_) = simulate(world, seed).scored(less=simulate(world, seed, method=1))
    of, influences = fold_influence([[test]], MIOU)
    sums = np.bincount(of.query, influences)
    signs = np.random.default_rng(seed).choice([-1, 1], (999, len(sums)))
    return bool(np.mean(np.abs(signs @ sums) >= abs(test.value(MIOU))) <= 0.05)


def line(world: World, tests: int) -> list[str]:
    """Shares of the tests, in percent."""
    rules = [covers, alarm, *([covers_by_episode, alarm_by_query] if world.trainings == 1 else [])]
    shares = [f"{100 * np.mean([rule(world, seed) for seed in range(tests)]):.1f}" for rule in rules]
    kind = [f"{world.shot}-shot", str(CLASSES * world.images), str(world.trainings), f"{world.support / world.query:.2f}"]
    return [*kind, *shares, *["-"] * (4 - len(rules))]


def calculated(folds: int, trainings: int) -> list[str]:
    """Percent of intervals that miss the truth, as trainings vary more and more beside many images."""
    return [str(folds), str(trainings), *(f"{100 * level(trainings, ratio, folds, draws=4000):.1f}" for ratio in RATIOS)]


def main(tests: int) -> None:
    """Print a line a kind of test, then one a number of folds and trainings."""
    with ProcessPoolExecutor() as pool:
        lines: Sequence[list[str]] = [*pool.map(line, WORLDS, [tests] * len(WORLDS))]
    head = ["tested", "images", "trainings", "support's effect", "interval holds", "false alarms"]
    head += ["by episode: holds", "by query alone: false alarms"]
    print(aligned([head, ["---", *["---:"] * 7], *lines]), end="\n\n")
    head = ["folds", "trainings", *map(str, RATIOS)]
    print(aligned([head, ["---:"] * len(head), *(calculated(*case) for case in product((1, 4), (2, 3, 5, 10)))]))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
