"""The field's scores: intersections and unions pooled per class over all episodes.

``mIoU`` is the mean over classes of the foreground IoU, ``FB-IoU`` the mean of background and foreground IoU pooled over
everything. ``torchmetrics.segmentation.MeanIoU`` averages per image, which is another number.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from mshnet_pl.options import UNKNOWN
from mshnet_pl.utils.numbers import percent

EpisodeCounts = Int64[Tensor, "episodes 6"]
"""A row an episode and class: number, class, intersection, predicted, true and known pixels."""


class Scores(NamedTuple):
    """Scores in percent, and the integers that they come from."""

    miou: float
    fb_iou: float
    foreground_iou: float
    background_iou: float
    class_iou: dict[int, float]
    intersection: dict[int, int]
    union: dict[int, int]
    everything_foreground_miou: float
    """mIoU of a prediction that calls every pixel foreground, on the same episodes."""


def episode_counts(
    predicted: UInt8[Tensor, "batch height width"],
    mask: UInt8[Tensor, "batch height width"],
    class_id: Int64[Tensor, "batch"],
    number: Int64[Tensor, "batch"],
) -> Int64[Tensor, "batch 6"]:
    """Count each episode's pixels; those labelled 255 are left out.

    Args:
        predicted: (B, H, W) of 0 and 1.
        mask: (B, H, W) of 0, 1 and 255.
        class_id: (B,) classes.
        number: (B,) episode numbers.
    """
    known = mask != UNKNOWN
    true = mask == 1
    positive = (predicted == 1) & known
    pixels = [(x.sum((1, 2))) for x in (positive & true, positive, true, known)]
    return torch.stack([number, class_id, *pixels], dim=1)


def scores(counts: EpisodeCounts) -> Scores:
    """Pool episodes' counts into the field's scores; a row of the same number and class counts once.

    A class without a pixel, predicted or true, has IoU 0 and no episode at all gives 0 throughout.
    """
    counts = counts.cpu()
    counts = counts[_first_places(counts[:, :2])]
    classes = counts[:, 1].unique().tolist()
    sums = {c: counts[counts[:, 1] == c, 2:].sum(0).tolist() for c in classes}
    intersection = {c: s[0] for c, s in sums.items()}
    union = {c: s[1] + s[2] - s[0] for c, s in sums.items()}
    known = sum(s[3] for s in sums.values())
    all_intersection, all_union = sum(intersection.values()), sum(union.values())
    foreground = percent(all_intersection, all_union)
    background = percent(known - all_union, known - all_intersection)
    class_iou = {c: percent(intersection[c], union[c]) for c in classes}
    return Scores(
        miou=_mean(list(class_iou.values())),
        fb_iou=(foreground + background) / 2,
        foreground_iou=foreground,
        background_iou=background,
        class_iou=class_iou,
        intersection=intersection,
        union=union,
        everything_foreground_miou=_mean([percent(s[2], s[3]) for s in sums.values()]),
    )


def _first_places(keys: Int64[Tensor, "rows columns"]) -> Int64[Tensor, "places"]:
    """Where each distinct row occurs first."""
    values, inverse = keys.unique(dim=0, return_inverse=True)
    return torch.full((len(values),), len(keys)).scatter_reduce_(0, inverse, torch.arange(len(keys)), "amin")


def row_iou(counts: EpisodeCounts) -> Float[Tensor, "episodes"]:
    """The IoU of every row by itself, in percent; 0 where nothing is predicted or true."""
    intersection, predicted, true = counts[:, 2:5].unbind(1)
    return 100 * intersection / (predicted + true - intersection).clamp(min=1)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


class EpisodeIoU(Metric):
    """Keeps every episode's counts, so that any number of processes and any padding give the same integers."""

    higher_is_better = True
    full_state_update = False
    rows: list[Tensor] | Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, predicted: Tensor, mask: Tensor, class_id: Tensor, number: Tensor) -> None:
        """Add a batch of B episodes.

        Args:
            predicted: (B, H, W) uint8 of 0 and 1.
            mask: (B, H, W) uint8 of 0, 1 and 255; pixels labelled 255 do not count.
            class_id: (B,) int64, each episode's class, 0-based.
            number: (B,) int64, each episode's number. An episode that is added twice counts once.
        """
        assert isinstance(self.rows, list)
        self.rows.append(episode_counts(predicted, mask, class_id, number))

    def counts(self) -> EpisodeCounts:
        """The counts of all episodes of this process, or of all processes once synchronised.

        Returns:
            (E, 6) int64, a row an episode in the order in which they were added: number, class, intersection, predicted,
            true and known pixels. (0, 6) before the first ``update``.
        """
        if isinstance(self.rows, list) and not self.rows:
            return torch.zeros(0, 6, dtype=torch.int64, device=self.device)
        rows: Tensor = dim_zero_cat(self.rows)
        return rows

    def compute(self) -> Scores:
        """The pooled scores of all processes' episodes.

        Returns:
            Percent as floats, and the integers that they come from; see ``scores``.
        """
        return scores(self.counts())
