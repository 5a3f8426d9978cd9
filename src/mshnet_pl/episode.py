"""The two records that everything else exchanges: an episode and what a method predicts for it."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
"""(3, 1, 1): ImageNet's mean of each channel, on a scale of 0 to 1."""
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
"""(3, 1, 1): ImageNet's standard deviation of each channel."""


class Episode(NamedTuple):
    """A batch of B episodes of one class each, K support images and one query image per episode.

    An N-way episode is N rows that follow each other: the same number and query, a class with its supports each. Its
    prediction gives a pixel to the class with the highest foreground score.

    Images are float32, normalised with ImageNet's mean and standard deviation. ``S`` is ``data.image_size``. The query
    mask has the resolution that is scored; where the queries of a batch differ in size, masks are padded with 255.

    A ``NamedTuple`` because both PyTorch's collation and Lightning's device transfer understand it.
    """

    query: Tensor
    """(B, 3, S, S) float32."""
    support: Tensor
    """(B, K, 3, S, S) float32."""
    support_mask: Tensor
    """(B, K, S, S) float32: 1 on the class, 0 elsewhere."""
    query_mask: Tensor
    """(B, H, W) uint8: 1 on the class, 0 elsewhere, 255 where nothing is known."""
    query_size: Tensor
    """(B, 2) int64: height and width of each query mask before padding."""
    class_id: Tensor
    """(B,) int64: the episode's class, 0-based."""
    number: Tensor
    """(B,) int64: the episode's number, which together with the seed identifies it."""
    query_id: Tensor
    """(B,) int64: the number of the query's image in the data set's list of images."""
    support_id: Tensor
    """(B, K) int64: the same for the supports."""


class Supervised(NamedTuple):
    """Further logits of a training step, and what they should be."""

    weight: float
    """Of their loss."""
    logits: Tensor
    """(N, C, h, w): of C classes, of any images of the batch."""
    target: Tensor
    """(N, H, W) uint8 or float: labels, 255 where nothing is known."""


class Prediction(NamedTuple):
    """Logits of background (channel 0) and foreground (channel 1)."""

    logits: Tensor
    """(B, 2, h, w): final logits at the method's own resolution."""
    inner: Mapping[str, Tensor] = MappingProxyType({})
    """(B, 2, h_b, w_b) each: intermediate logits for deep supervision, by name, deepest first; empty in eval mode."""
    losses: Mapping[str, tuple[float, Tensor]] = MappingProxyType({})
    """Weights and values () of a method's own losses, by name, which training adds; empty in eval mode."""
    aligned: bool = True
    """Whether corners are aligned where logits are resized bilinearly to the image."""
    supervise: Callable[[Tensor, Tensor], Mapping[str, Supervised]] | None = None
    """Further supervision that needs the queries' masks (B, H, W) and classes (B,), in training alone; by name."""

    def resized(self, size: Sequence[int], logits: Tensor | None = None) -> Tensor:
        """The final logits, or others, resized to height and width as the method resizes them."""
        logits = self.logits if logits is None else logits
        return interpolate(logits, (size[0], size[1]), mode="bilinear", align_corners=self.aligned)

    def comparable(self, size: Sequence[int]) -> Tensor:
        """The final logits as they are where their corners are aligned, as everybody resizes them, else at ``size``."""
        return self.logits if self.aligned else self.resized(size)
