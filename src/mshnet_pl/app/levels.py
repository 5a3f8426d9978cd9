"""Margins as the page keeps them: a byte a pixel, compressed, from which every mask that it can show follows exactly."""

import zlib
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mshnet_pl.errors import DataError
from mshnet_pl.inference.labels import min_margin

_STEPS = 100
"""Thresholds are multiples of 1 / 100."""
_BOUNDS = torch.tensor([min_margin(step / _STEPS) for step in range(1, _STEPS)])
_ROWS = 256
"""That are converted at a time."""


class Levels(NamedTuple):
    """Of every pixel, how many of the thresholds 0.01 to 0.99 its foreground probability exceeds."""

    packed: bytes
    height: int
    width: int

    @classmethod
    def of(cls, margins: Float[Tensor, "height width"]) -> "Levels":
        """Those of foreground minus background logits."""
        counts = np.empty(margins.shape, np.uint8)
        for first in range(0, len(counts), _ROWS):
            rows = margins[first : first + _ROWS].float().cpu().contiguous()
            counts[first : first + _ROWS] = torch.bucketize(rows, _BOUNDS, out_int32=True).numpy()
        return cls(zlib.compress(counts.data, 1), *counts.shape)

    def mask(self, threshold: object) -> Bool[np.ndarray, "height width"]:
        """Where the foreground's probability exceeds the threshold, rounded to a hundredth.

        Raises:
            DataError: no threshold from 0.01 to 0.99.
        """
        if not (isinstance(threshold, int | float) and 0 < threshold < 1 and 1 <= round(threshold * _STEPS) < _STEPS):
            raise DataError(f"threshold={threshold}: give a number from 0.01 to 0.99")
        counts = np.frombuffer(zlib.decompress(self.packed), np.uint8).reshape(self.height, self.width)
        return counts >= round(threshold * _STEPS)
