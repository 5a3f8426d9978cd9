"""Draws one's own images and masks for ``data=folder``."""

from pathlib import Path

import numpy as np
from PIL import Image

SHAPE = 20, 26


def draw(path: Path, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 255, (*SHAPE, 3), dtype=np.uint8)).save(path)


def save(path: Path, mask: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(mask)
    (image if mode is None else image.convert(mode)).save(path)


def blob(rng: np.random.Generator) -> np.ndarray:
    y, x = (int(n) for n in rng.integers(0, 10, 2))
    mask = np.zeros(SHAPE, bool)
    mask[y : y + 8, x : x + 9] = True
    return mask
