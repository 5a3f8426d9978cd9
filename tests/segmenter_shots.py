"""A trained method, a segmenter of it, and what tests show to both."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mshnet_pl import Segmenter
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.models.builder import read_method

SIZE = 64
SOURCE = Synthetic(size=90)


def shown(class_id: int, shots: int, first: int = 1) -> tuple[list[Image.Image], list[np.ndarray]]:
    """Images and masks of a class, cut to different sizes."""
    names = [f"val-{class_id:02d}-{i:04d}" for i in range(first, first + shots)]
    boxes = [(0, 0, 90 - 5 * i, 90) for i in range(shots)]
    images = [SOURCE.image(name).crop(box) for name, box in zip(names, boxes, strict=True)]
    masks = [SOURCE.mask(name, [class_id])[:, : box[2]] for name, box in zip(names, boxes, strict=True)]
    return images, masks


QUERY = SOURCE.image("val-00-0000").crop((4, 0, 90, 71))


@pytest.fixture(scope="module")
def method(checkpoint: Path) -> AbstractMethod:
    trained = read_method(checkpoint)
    assert trained.image_size == SIZE
    return trained.method


@pytest.fixture
def segmenter(method: AbstractMethod) -> Segmenter:
    return Segmenter(method, SIZE, "cpu").fit(*shown(0, 2))
