"""TensorBoard: Lightning's logger, which also shows episodes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from pytorch_lightning.loggers import TensorBoardLogger

from mshnet_pl.options import UNKNOWN

_TINTS = {1: (230, 60, 60), UNKNOWN: (128, 128, 128)}
_GAP = 2
"""White pixels between two pictures of an episode."""


class TensorBoardTracker(TensorBoardLogger):
    """Lightning's logger for TensorBoard, with pictures of the same episodes after every validation.

    Args:
        panel: how many episodes ``ValidationPanels`` draws.
        arguments: of Lightning's logger.
    """

    def __init__(self, panel: int = 4, **arguments: Any) -> None:  # noqa: ANN401 - Lightning's
        super().__init__(**arguments)
        self.panel = panel

    def log_episodes(
        self,
        key: str,
        step: int,
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        titles: Sequence[str],
        captions: Sequence[str],
        layers: Mapping[str, UInt8[np.ndarray, "_ _ _"]],
    ) -> None:
        """A picture an episode below ``key``: the image, and beside it once more under each layer; captions as a text."""
        for i, (title, image) in enumerate(zip(titles, images, strict=True)):
            strip = np.hstack([image, *(_beside(image, masks[i]) for masks in layers.values())])
            self.experiment.add_image(f"{key}/{title}", strip, step, dataformats="HWC")
        shown = ", ".join(["query", *layers]) if layers else ""
        self.experiment.add_text(key, "\n".join([*[shown] * bool(shown), *(f"- {text}" for text in captions)]), step)


def _beside(image: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h padded 3"]:
    """A gap, and the image with its mask's values tinted."""
    shown = image.copy()
    for value, tint in _TINTS.items():
        inside = mask == value
        shown[inside] = (shown[inside] + np.array(tint)) // 2
    return np.pad(shown, ((0, 0), (_GAP, 0), (0, 0)), constant_values=255)
