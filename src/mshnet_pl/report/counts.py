"""Pixel counts of episodes, the scores that they pool to, and what each episode adds to these."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, Num

from mshnet_pl.report.episode_images import EpisodeImages

MIOU, FB_IOU = "mIoU", "FB-IoU"
Score = str | int
"""``MIOU``, ``FB_IOU``, or a class by its place among those that occur."""


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
    episodes, *shape = counts.pixels.shape
    return scores_of((weights.astype(np.float64) @ counts.pixels.reshape(episodes, -1)).reshape(-1, *shape))


def scores_of(sums: Float64[np.ndarray, "R C 5"]) -> Pooled:
    """The scores of pooled counts."""
    intersection, predicted, true, known, present = np.moveaxis(sums, -1, 0)  # (R, C) each
    union = predicted + true - intersection
    class_iou = np.where(present > 0, _percent(intersection, union), np.nan)
    i, u, k = (pixels.sum(1) for pixels in (intersection, union, known))
    return Pooled(np.nanmean(class_iou, axis=1), (_percent(i, u) + _percent(k - u, k - i)) / 2, class_iou)


def chosen(scores: Pooled, score: Score) -> Float64[np.ndarray, "R"]:
    """One of the scores."""
    if isinstance(score, int):
        return scores.class_iou[:, score]
    return scores.miou if score == MIOU else scores.fb_iou


def row_pixels(
    counts: PixelCounts, images: EpisodeImages
) -> tuple[Int64[np.ndarray, "rows"], Float64[np.ndarray, "rows 5"]]:
    """Of every episode and class in the order of ``images``: the class's place, and the pixels."""
    place = np.searchsorted(counts.classes, images.class_id)
    return place, counts.pixels[images.episode, place]


def influence(counts: PixelCounts, images: EpisodeImages, score: Score) -> Float64[np.ndarray, "rows"]:
    """What every episode and class adds to a score in percent, to first order."""
    _, pixels = row_pixels(counts, images)
    intersection, predicted, true, known, _ = pixels.T
    union = predicted + true - intersection
    class_id = np.array(images.class_id)
    queries = np.unique(np.array(images.query), return_inverse=True)[1]
    if score == FB_IOU:
        background = _of_ratio(known - union, known - intersection, queries)
        return (_of_ratio(intersection, union, queries) + background) / 2
    classes = counts.classes[score : score + 1] if isinstance(score, int) else counts.classes
    found = np.zeros(len(union))
    for c in classes:
        rows = class_id == c
        found[rows] = _of_ratio(intersection[rows], union[rows], queries[rows]) / len(classes)
    return found


def _of_ratio(
    part: Float64[np.ndarray, "N"], whole: Float64[np.ndarray, "N"], queries: Int64[np.ndarray, "N"]
) -> Float64[np.ndarray, "N"]:
    """Influence of every row on 100 sum(part) / sum(whole).

    A query image with a share h of the whole draws the ratio towards itself: its influence is divided by 1 - h, as when
    it is left out (the jackknife), times the mean of 1 - h over images.
    """
    total = whole.sum()
    if total == 0:
        return np.zeros_like(whole)
    leverage = np.bincount(queries, whole)[queries] / total
    others = 1 - 1 / len(np.unique(queries))
    correction = np.divide(others, 1 - leverage, out=np.ones_like(whole), where=leverage < 1)
    return 100 * (part - part.sum() / total * whole) / total * correction


def _percent(part: Float64[np.ndarray, "..."], whole: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    return 100 * np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
