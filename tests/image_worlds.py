"""Tests on simulated images, whose expected scores are known."""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, stdtrit
from scipy.stats import chi2

from mshnet_pl.report.bootstrap import FoldSpread, Scored, estimate, fold_spread, freedom, p_value
from mshnet_pl.report.counts import MIOU, PixelCounts, episode_counts
from mshnet_pl.report.episode_images import EpisodeImages

CLASSES = 5
KNOWN = 1_000_000
NAMES = tuple(f"class {c}" for c in range(CLASSES))
_MEAN, _SQUARE = 0.2, 0.2**2 + 0.2 * 0.8 / 7.25  # of a beta(1.25, 5): an object's share of the picture


class World(NamedTuple):
    """How images and trainings differ."""

    images: int
    """Of a class."""
    episodes: int
    """Of a test, all classes together."""
    shot: int
    query: float = 0.15
    """Standard deviation of a query's effect on the IoU."""
    support: float = 0.05
    pair: float = 0.08
    training: float = 0.0
    """Standard deviation of a training's effect on every class together."""
    trainings: int = 1


def expected_miou() -> float:
    """Of an object with share s the IoU is 0.5 + 0.3 (s - E s) and effects of mean 0; pooled, large objects count more."""
    return 100 * (0.5 + 0.3 * (_SQUARE - _MEAN**2) / _MEAN)


class Simulated(NamedTuple):
    """A test of each training on the same episodes."""

    images: EpisodeImages
    counts: list[PixelCounts]

    def scored(self, less: "Simulated | None" = None) -> list[list[Scored]]:
        """The test of each training, or its difference to that of another method."""
        others = less.counts if less else [None] * len(self.counts)
        return [[Scored(self.images, NAMES, a, b)] for a, b in zip(self.counts, others, strict=True)]


def simulate(world: World, seed: int, method: int = 0) -> Simulated:
    """Draw images, then episodes, then the pixel counts of each training.

    Args:
        world: how images and trainings differ.
        seed: of images, objects and episodes, which methods share.
        method: whose effects; those of any two have the same distribution.
    """
    rng, own = np.random.default_rng(seed), np.random.default_rng((seed, method))
    n, count, shot = world.images, world.episodes, world.shot
    class_id = rng.integers(CLASSES, size=count)
    places = rng.random((count, n)).argpartition(shot, 1)[:, : shot + 1]
    places = rng.permuted(places, axis=1)
    query, supports = places[:, 0], places[:, 1:]
    shapes = {"query": world.query, "support": world.support}
    effect = {k: own.uniform(-(3**0.5), 3**0.5, (CLASSES, n)) * sd for k, sd in shapes.items()}
    share = rng.beta(1.25, 5, (CLASSES, n))
    pair = own.normal(0, world.pair, (CLASSES, n, n))
    iou = 0.5 + 0.3 * (share - _MEAN)[class_id, query] + effect["query"][class_id, query]
    iou = iou + effect["support"][class_id[:, None], supports].mean(1)
    iou = iou + pair[class_id[:, None], query[:, None], supports].mean(1)
    union = share[class_id, query] * KNOWN
    names = np.array([[f"{c} {i}" for i in range(n)] for c in range(CLASSES)])
    images = EpisodeImages(
        tuple(names[class_id, query].tolist()),
        tuple(map(tuple, names[class_id[:, None], supports].tolist())),
        tuple(class_id.tolist()),
        way=1,
    )
    counts = []
    for _ in range(world.trainings):
        shown = iou + world.training * own.normal() + own.normal(0, 0.03, (CLASSES, n))[class_id, query]
        intersection = shown * union
        half = (union + intersection) / 2
        rows = np.column_stack([np.arange(count), class_id, intersection, half, half, np.full(count, KNOWN)])
        counts.append(episode_counts(rows.round().astype(np.int64)))
    return Simulated(images, counts)


def covers(world: World, seed: int) -> bool:
    """Whether the interval of a simulated test holds the expected mIoU."""
    trainings = simulate(world, seed).scored()
    value = float(np.mean([test.value(MIOU) for (test,) in trainings]))
    _, low, high = estimate(value, [fold_spread(trainings, MIOU)])
    assert low is not None and high is not None
    return low <= expected_miou() <= high


def alarm(world: World, seed: int) -> bool:
    """Whether two methods that are as good as each other are told apart at 5%."""
    trainings = simulate(world, seed).scored(less=simulate(world, seed, method=1))
    value = float(np.mean([test.value(MIOU) for (test,) in trainings]))
    return p_value(value, [fold_spread(trainings, MIOU)]) <= 0.05


def level(trainings: int, ratio: float, folds: int = 1, draws: int = 500) -> float:
    """How often a 95% interval misses the truth where images and trainings are normal, by integration over the latter.

    Args:
        trainings: of every fold.
        ratio: variance of the mean over a fold's trainings, in that of the choice of its many images.
        folds: that are alike.
        draws: of the estimated variance between trainings.
    """
    rng = np.random.default_rng(0)
    drawn = chi2.ppf(rng.permuted(np.tile((np.arange(draws) + 0.5) / draws, (folds, 1)), axis=1), trainings - 1)
    nothing, missed = np.zeros(0), 0.0
    for estimated in (ratio * drawn / (trainings - 1)).T.tolist():
        spreads = [FoldSpread(1.0, np.inf, nothing, [], nothing, variance, trainings) for variance in estimated]
        half = stdtrit(freedom(spreads), 0.975) * np.sqrt(folds + sum(estimated))
        missed += 2 * ndtr(-half / np.sqrt(folds * (1 + ratio)))
    return float(missed / draws)
