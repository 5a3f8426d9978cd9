"""Confidence intervals and a paired test for scores that are pooled over episodes.

An interval is the percentile bootstrap's: the episodes of a test are drawn with replacement (an N-way episode as a whole),
their counts pooled as ``evaluation.metrics.scores`` pools them, per-fold scores averaged over seeds and then over folds. It
covers the choice of test episodes. Folds are all there are and are not drawn. Where a fold was trained with several seeds,
those are drawn as well, and the interval covers the variation of training; with one training seed it does not. Images that
serve in several episodes make the true uncertainty over images somewhat larger.

Draws follow from ``SEED`` and the episodes' hash alone: the same files give the same digits, and results on the same
episodes, as of several training seeds or of two methods, meet the same draws, so that what they share is not averaged away.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int16, Int64, Num

SEED = 2203_09550
RESAMPLES = 2000
PERMUTATIONS = 9999
LEVEL = 95  # percent
_BLOCK = 1000  # resamples pooled at a time


class PixelCounts(NamedTuple):
    """Pixel counts of N episodes and C classes."""

    numbers: Int64[np.ndarray, "N"]
    """Episode numbers, ascending."""
    classes: Int64[np.ndarray, "C"]
    """Classes that occur, ascending."""
    pixels: Float64[np.ndarray, "N C 5"]
    """Intersection, predicted, true and known pixels, and 1 where the episode has the class; integers."""


class Pooled(NamedTuple):
    """Scores in percent of R weightings of the same episodes."""

    miou: Float64[np.ndarray, "R"]
    fb_iou: Float64[np.ndarray, "R"]
    class_iou: Float64[np.ndarray, "R C"]
    """NaN where the class does not occur."""


class Estimate(NamedTuple):
    """A score in percent and its interval, if there is one."""

    value: float
    low: float | None = None
    high: float | None = None


def episode_counts(rows: Int64[np.ndarray, "rows 6"]) -> PixelCounts:
    """PixelCounts by episode and class; a row of the same number and class counts once.

    Args:
        rows: number, class, intersection, predicted, true and known pixels.
    """
    rows = rows[np.sort(np.unique(rows[:, :2], axis=0, return_index=True)[1])]
    numbers, episode = np.unique(rows[:, 0], return_inverse=True)
    classes, which = np.unique(rows[:, 1], return_inverse=True)
    pixels = np.zeros((len(numbers), len(classes), 5))
    pixels[episode, which] = np.column_stack([rows[:, 2:], np.ones(len(rows))])
    return PixelCounts(numbers, classes, pixels)


def everything_foreground(counts: PixelCounts) -> PixelCounts:
    """What a prediction that calls every pixel foreground would have counted."""
    _, _, true, known, present = np.moveaxis(counts.pixels, -1, 0)
    return counts._replace(pixels=np.stack([true, known, true, known, present], axis=-1))


def pooled(counts: PixelCounts, weights: Num[np.ndarray, "R N"]) -> Pooled:
    """The scores of episodes that occur ``weights`` times, as ``mshnet_pl.evaluation.metrics.scores`` defines them."""
    episodes, classes, _ = counts.pixels.shape
    flat = counts.pixels.reshape(episodes, -1)
    sums = np.concatenate([weights[i : i + _BLOCK].astype(np.float64) @ flat for i in range(0, len(weights), _BLOCK)])
    intersection, predicted, true, known, present = np.moveaxis(sums.reshape(-1, classes, 5), -1, 0)  # (R, C) each
    union = predicted + true - intersection
    class_iou = np.where(present > 0, _percent(intersection, union), np.nan)
    i, u, k = (pixels.sum(1) for pixels in (intersection, union, known))
    return Pooled(np.nanmean(class_iou, axis=1), (_percent(i, u) + _percent(k - u, k - i)) / 2, class_iou)


@lru_cache(maxsize=16)
def resamples(episodes_hash: str, episodes: int, count: int = RESAMPLES) -> Int16[np.ndarray, "R N"]:
    """How often each episode occurs in each of ``count`` draws with replacement."""
    drawn = _generator(episodes_hash).multinomial(episodes, np.full(episodes, 1 / episodes), size=count)
    return drawn.astype(np.int16)


def over_seeds(by_seed: Sequence[Float64[np.ndarray, "R"]], fold: int) -> Float64[np.ndarray, "R"]:
    """Resampled scores of a fold's training seeds to those of the fold: seeds drawn with replacement, averaged."""
    values = np.stack(by_seed, axis=1)  # (R, S)
    count, seeds = values.shape
    if seeds == 1:
        return values[:, 0]
    drawn = _generator(f"fold {fold}").integers(seeds, size=(count, seeds))
    return np.take_along_axis(values, drawn, axis=1).mean(1)


def estimate(value: float, drawn: Float64[np.ndarray, "R"] | None) -> Estimate:
    """A score with the interval of its resampled values."""
    if drawn is None:
        return Estimate(value)
    low, high = np.nanpercentile(drawn, [(100 - LEVEL) / 2, (100 + LEVEL) / 2], method="weibull")
    return Estimate(value, float(low), float(high))


def swaps(episodes_hash: str, episodes: int, count: int = PERMUTATIONS) -> Num[np.ndarray, "R N"]:
    """In which episodes the two runs' counts change places, each with probability 1/2."""
    return _generator(episodes_hash).integers(2, size=(count, episodes), dtype=np.int8)


def swapped(a: PixelCounts, b: PixelCounts, swap: Num[np.ndarray, "R N"]) -> tuple[Pooled, Pooled]:
    """The scores of both runs after each of the swaps."""
    both = a._replace(pixels=np.concatenate([a.pixels, b.pixels]))
    return pooled(both, np.hstack([1 - swap, swap])), pooled(both, np.hstack([swap, 1 - swap]))


def p_value(observed: float, permuted: Float64[np.ndarray, "R"]) -> float:
    """Two-sided: (b + 1) / (n + 1), with b of n differences as large as the observed one (Phipson and Smyth, 2010)."""
    extreme = np.abs(permuted) >= abs(observed) - 1e-9  # percent; equal sums may round differently
    return float((extreme.sum() + 1) / (len(permuted) + 1))


def _percent(part: Float64[np.ndarray, "..."], whole: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    return 100 * np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _generator(name: str) -> np.random.Generator:
    return np.random.default_rng([SEED, *name.encode()])
