"""Confidence intervals and a paired test for scores that are pooled over episodes; the image is the unit.

A fold's thousands of episodes reuse a few hundred images, so they are not independent. The bootstrap gives every image a
multiplier, Poisson with mean 1 (Hanley and MacGibbon, 2006), less its class's mean; an episode weighs 1 and the excess of
its query's and its supports' multipliers; weighted counts are pooled as ``evaluation.metrics.scores`` pools them. The scores
so drawn have the shape of the bootstrap's distribution and, after scaling, the variance that ``image_variance`` estimates,
with Student's quantile for its degrees of freedom. Folds are all there are and are not drawn. Where a fold was trained with
several seeds, the variance between its trainings is added, and its few degrees of freedom count.

Multipliers follow from ``SEED`` and the image's name alone: the same files give the same digits, and results on the same
images, as of several training seeds, test seeds or methods, meet the same draws, so that what they share is not averaged
away.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtri, stdtr, stdtrit

from mshnet_pl.report.counts import (
    FB_IOU,
    MIOU,
    PixelCounts,
    Pooled,
    Score,
    chosen,
    influence,
    pooled,
    row_pixels,
    scores_of,
)
from mshnet_pl.report.episode_images import EpisodeImages
from mshnet_pl.report.image_variance import Design, design

SEED = 2203_09550
RESAMPLES = 2000
PERMUTATIONS = 9999
LEVEL = 95  # percent
_T = TypeVar("_T", float, np.ndarray)


class Estimate(NamedTuple):
    """A score in percent and its interval, if there is one."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def of_score(self) -> "Estimate":
        """The same within 0 and 100, which a score cannot leave, though a difference can."""
        if self.low is None or self.high is None:
            return self
        return Estimate(self.value, max(self.low, 0.0), min(self.high, 100.0))


@dataclass(frozen=True)
class Scored:
    """A test, or the difference of two on the same episodes."""

    images: EpisodeImages
    classes: tuple[str, ...]
    """Names of the classes that occur, in the counts' order."""
    counts: PixelCounts
    less: PixelCounts | None = None
    """Whose scores are taken off."""

    def has(self, score: str) -> bool:
        """Whether it is ``mIoU``, ``FB-IoU`` or a class that occurs."""
        return score in (MIOU, FB_IOU, *self.classes)

    def varies(self, score: str) -> bool:
        """Whether each class of the score has two query images or more: only these show how it varies by image."""
        place = self._place(score)
        classes = self.counts.classes.tolist()
        return self.images.single.isdisjoint([classes[place]] if isinstance(place, int) else classes)

    def value(self, score: str) -> float:
        """In percent."""
        return self._difference(lambda counts: self.of_counts(counts, score))

    def of_counts(self, counts: PixelCounts, score: str) -> float:
        """Of the one or the other counts, in percent."""
        return float(chosen(pooled(counts, np.ones((1, len(counts.pixels)))), self._place(score))[0])

    def influence(self, score: str) -> Float64[np.ndarray, "rows"]:
        """What every episode and class adds to the score, to first order."""
        return self._difference(lambda counts: influence(counts, self.images, self._place(score)))

    def resampled(self, score: str, of: Design) -> Float64[np.ndarray, "R"]:
        """The score under every set of multipliers of the design's images."""
        return self._difference(lambda counts: chosen(_resampled(counts, self.images, of), self._place(score)))

    def _place(self, score: str) -> Score:
        return score if score in (MIOU, FB_IOU) else self.classes.index(score)

    def _difference(self, value: Callable[[PixelCounts], _T]) -> _T:
        return value(self.counts) if self.less is None else value(self.counts) - value(self.less)


class FoldSpread(NamedTuple):
    """How a fold's score, the mean over its trainings, varies; in percent and squared percent."""

    variance: float
    """By the choice of images and episodes."""
    freedom: float
    drawn: Float64[np.ndarray, "R"]
    """Deviations of the resampled scores, scaled to that variance."""
    names: list[str]
    """Its images."""
    by_image: Float64[np.ndarray, "images"]
    """Influence of each."""
    training_variance: float
    """By the choice of training seeds; 0 where there is one."""
    trainings: int
    known: bool = True
    """False where a class has a single query image, or no variance is seen: the true one is larger."""


def fold_spread(trainings: Sequence[Sequence[Scored]], score: str) -> FoldSpread:
    """How the mean over trainings of the means over tests varies."""
    of, influences = fold_influence(trainings, score)
    tests = [(test, len(trainings) * len(own)) for own in trainings for test in own]
    drawn = np.sum([test.resampled(score, of) / share for test, share in tests], axis=0)
    spread = of.spread(influences)
    values = [np.mean([test.value(score) for test in own]) for own in trainings]
    between = float(np.var(values, ddof=1)) / len(values) if len(values) > 1 else 0.0
    scaled = _scaled(drawn - drawn.mean(), spread.variance)
    known = all(test.varies(score) and (test.less is not None or spread.variance > 0) for test, _ in tests)
    return FoldSpread(spread.variance, spread.freedom, scaled, of.names, spread.by_image, between, len(values), known)


def fold_influence(trainings: Sequence[Sequence[Scored]], score: str) -> tuple[Design, Float64[np.ndarray, "rows"]]:
    """What every episode and class adds to a fold's score, and their design; arguments as ``fold_spread``'s."""
    of = design(tuple(dict.fromkeys(test.images for own in trainings for test in own)))
    influences = np.zeros(len(of.query))
    for own in trainings:
        for test in own:
            influences[of.rows[test.images]] += test.influence(score) / (len(trainings) * len(own))
    return of, influences


def estimate(value: float, folds: Sequence[FoldSpread]) -> Estimate:
    """The mean over folds with its interval; without one if there are no folds, or one whose variance is not known."""
    if not folds or not all(fold.known for fold in folds):
        return Estimate(value)
    deviations = np.mean([fold.drawn + _of_trainings(place, fold, RESAMPLES) for place, fold in enumerate(folds)], axis=0)
    limits = [(100 - LEVEL) / 2, (100 + LEVEL) / 2]
    wider = stdtrit(freedom(folds), limits[1] / 100) / ndtri(limits[1] / 100)
    low, high = value + wider * np.percentile(deviations, limits, method="weibull")
    return Estimate(value, min(float(low), value), max(float(high), value))  # few images may all lie on one side


def p_value(observed: float, folds: Sequence[FoldSpread]) -> float:
    """Two-sided, of a difference: every image's influence keeps or changes its sign, each with probability 1/2.

    To swap the two runs' counts by query image alone would leave out what hangs on a support, which serves many queries.
    The sums are scaled to the variance of the difference. (b + 1) / (n + 1), with b of n sums as large as the observed one
    (Phipson and Smyth, 2010), after that is brought from Student's distribution to the normal one's same quantile.
    """
    flipped = np.mean(
        [
            _flips(tuple(fold.names)) @ (fold.by_image * _scale(fold)) + _of_trainings(place, fold, PERMUTATIONS)
            for place, fold in enumerate(folds)
        ],
        axis=0,
    )
    error = np.sqrt(sum(fold.variance + fold.training_variance for fold in folds)) / len(folds)
    normal = -error * ndtri(stdtr(freedom(folds), -abs(observed) / error)) if error > 0 else abs(observed)
    extreme = np.abs(flipped) >= normal - 1e-9  # percent; equal sums may round differently
    return float((extreme.sum() + 1) / (len(flipped) + 1))


def freedom(folds: Sequence[FoldSpread]) -> float:
    """Degrees of freedom of all variances together (Satterthwaite): over folds first, then of images and of trainings.

    A variance of few trainings that is too small by chance would count as a small part of the whole, whose degrees of
    freedom were then those of the many images. For their parts in the whole alone, both are taken (f + 2) / f times.
    """
    images = [(fold.variance, fold.freedom) for fold in folds]
    trainings = [(fold.training_variance, fold.trainings - 1.0) for fold in folds if fold.trainings > 1]
    kinds = [(sum(variance for variance, _ in parts), _satterthwaite(parts)) for parts in (images, trainings)]
    return _satterthwaite([(variance * (1 + 2 / own), own) for variance, own in kinds])


def _satterthwaite(parts: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of estimated variances, of which each has its own."""
    error = sum(variance**2 / own for variance, own in parts)
    return sum(variance for variance, _ in parts) ** 2 / error if error > 0 else np.inf


def _of_trainings(place: int, fold: FoldSpread, count: int) -> Float64[np.ndarray, "count"] | float:
    """Normal deviations of the mean over trainings."""
    if not fold.training_variance:
        return 0.0
    return np.sqrt(fold.training_variance) * _generator(f"trainings {place}").standard_normal(count)


def _scale(fold: FoldSpread) -> float:
    """From the images' influences to ones that are independent and have the fold's variance."""
    square = fold.by_image @ fold.by_image
    return float(np.sqrt(fold.variance / square)) if square > 0 else 0.0


def _scaled(deviations: Float64[np.ndarray, "R"], variance: float) -> Float64[np.ndarray, "R"]:
    square = np.mean(deviations**2)
    if square == 0:  # no image moves a score that is clipped at 0 or 100
        return np.sqrt(variance) * _generator("images").standard_normal(len(deviations))
    return deviations * np.sqrt(variance / square)


def _resampled(counts: PixelCounts, images: EpisodeImages, of: Design) -> Pooled:
    """The scores under every set of multipliers of the design's images."""
    place, pixels = row_pixels(counts, images)
    rows = of.rows[images]
    sums = np.zeros((len(of.names), *counts.pixels.shape[1:]))  # of the episodes of every image
    np.add.at(sums, (of.query[rows], place), pixels)
    np.add.at(sums, (of.supports[rows], place[:, None]), pixels[:, None])
    total = sums.sum(0)  # (C, 5)
    multiplied = _multipliers(tuple(of.names)) @ sums.reshape(len(sums), -1)
    drawn = multiplied.reshape(-1, *sums.shape[1:])  # (R, C, 5)
    excess = drawn - drawn[..., 4:] / np.maximum(total[:, 4:], 1) * total
    scores = scores_of(counts.pixels.sum(0) + excess)  # weights below 0 may leave a class of few images less than nothing
    return Pooled(*(np.clip(score, 0, 100) for score in scores))


@lru_cache(maxsize=16)
def _multipliers(names: tuple[str, ...]) -> Float64[np.ndarray, "R images"]:
    return np.stack([_generator(name).poisson(1, RESAMPLES) for name in names], axis=1).astype(np.float64)


@lru_cache(maxsize=4)
def _flips(names: tuple[str, ...]) -> Float64[np.ndarray, "P images"]:
    signs = [1 - 2 * _generator(name).integers(2, size=PERMUTATIONS, dtype=np.int8) for name in names]
    return np.stack(signs, axis=1).astype(np.float64)


def _generator(name: str) -> np.random.Generator:
    return np.random.default_rng([SEED, *name.encode()])
