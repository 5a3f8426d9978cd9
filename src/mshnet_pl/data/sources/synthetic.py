"""Synthetic images of 20 classes (shape x texture x colour): episodes anywhere, without a file."""

import zlib
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from mshnet_pl.data.protocol.split_lists import Pair
from mshnet_pl.data.sources.base import AbstractSource
from mshnet_pl.options import Subset

_SHAPES = ("disk", "square", "triangle", "star", "ring")
_TEXTURES = ("plain", "striped", "checked", "dotted")
_COLOURS = {
    "red": (0.80, 0.18, 0.15),
    "green": (0.20, 0.60, 0.25),
    "blue": (0.18, 0.30, 0.78),
    "yellow": (0.88, 0.76, 0.15),
    "violet": (0.55, 0.22, 0.65),
}
_LOOKS = tuple((c % 5, (c // 5 + c) % 4, (2 * c + c // 5) % 5) for c in range(20))
"""Numbers of every class's shape, texture and colour."""
_DISTRACTORS = 2


class _Thing(NamedTuple):
    """One object's place in an image; lengths are fractions of the image's side."""

    class_id: int
    x: float
    y: float
    radius: float
    angle: float


class Synthetic(AbstractSource):
    """Each image shows an object of the class that it is listed for and, behind it, objects of two other classes.

    All objects look equally striking, so an episode can be solved only by comparing with the support. A class is one
    combination of shape, texture and colour; every fold has all five shapes and colours. Position, size, angle, hue,
    light and background vary. Everything follows from the seed and the image's name.

    Args:
        size: side of the images in pixels.
        train_images: images listed for each class for training.
        val_images: the same for validation and test.
        seed: another seed gives other images.

    Raises:
        ValueError: a size or number that is not positive, or a negative seed.
    """

    classes = tuple(f"{list(_COLOURS)[c]} {_TEXTURES[t]} {_SHAPES[s]}" for s, t, c in _LOOKS)
    splits = "synthetic"

    def __init__(self, size: int = 128, train_images: int = 50, val_images: int = 25, seed: int = 0) -> None:
        numbers = {"size": (size, 1), "train_images": (train_images, 1), "val_images": (val_images, 1), "seed": (seed, 0)}
        for name, (value, minimum) in numbers.items():
            if type(value) is not int or value < minimum:
                raise ValueError(f"data.source.{name}={value}: give a whole number of at minimum {minimum}")
        self._size = size
        self._images = {Subset.TRAIN: train_images, Subset.VAL: val_images}
        self._seed = seed
        self.draws_per_class = train_images

    def pairs(self, subset: Subset) -> list[Pair]:
        """See the base class."""
        return [(f"{subset.value}-{c:02d}-{i:04d}", c) for c in range(len(_LOOKS)) for i in range(self._images[subset])]

    def contents(self, subset: Subset) -> Mapping[str, Collection[int]]:
        """See the base class."""
        return {name: {thing.class_id for thing in _things(self._seed, name)} for name, _ in self.pairs(subset)}

    def image(self, name: str) -> Image.Image:
        """See the base class."""
        return Image.fromarray(_draw(self._seed, self._size, name)[0])

    def mask(self, name: str, classes: Collection[int]) -> UInt8[np.ndarray, "height width"]:
        """See the base class."""
        return np.isin(_draw(self._seed, self._size, name)[1], [c + 1 for c in classes]).astype(np.uint8)


@lru_cache(maxsize=512)  # images come back in many episodes
def _draw(seed: int, size: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """(S, S, 3) uint8 image and (S, S) uint8 labels, 0 for background and c + 1 for class c."""
    rng = np.random.default_rng((seed, zlib.crc32(name.encode()), 1))
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size
    image = _background(x, y, rng)
    labels = np.zeros((size, size), np.uint8)
    for thing in _things(seed, name):
        shape, texture, colour = _LOOKS[thing.class_id]
        box = tuple(
            slice(max(int((at - 1.1 * thing.radius) * size), 0), int((at + 1.1 * thing.radius) * size) + 2)
            for at in (thing.y, thing.x)
        )
        dx, dy = (x[box] - thing.x) / thing.radius, (y[box] - thing.y) / thing.radius
        cos, sin = np.cos(thing.angle), np.sin(thing.angle)
        u, v = cos * dx + sin * dy, cos * dy - sin * dx
        inside = _inside(_SHAPES[shape], u, v)
        paint = np.clip(np.array(list(_COLOURS.values())[colour]) + rng.normal(0, 0.04, 3), 0, 1)
        shade = np.where(_pattern(_TEXTURES[texture], u, v), 1.0, 0.35) * rng.uniform(0.85, 1.15)
        image[box] = np.where(inside[..., None], paint * shade[..., None], image[box])
        labels[box][inside] = thing.class_id + 1
    light = 1 + rng.uniform(-0.2, 0.2) * (x - 0.5) + rng.uniform(-0.2, 0.2) * (y - 0.5)
    image = image * light[..., None] + rng.normal(0, 0.02, (size, size, 1))
    return (np.clip(image, 0, 1) * 255).astype(np.uint8), labels


def _things(seed: int, name: str) -> list[_Thing]:
    """What the image shows, back to front; its own class is in front."""
    rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
    own = int(name.split("-")[1])
    others = rng.permutation([c for c in range(len(_LOOKS)) if c != own])[:_DISTRACTORS]
    things = []
    for quadrant, class_id in zip(rng.permutation(4), (*others, own), strict=False):
        x, y = (np.array([quadrant % 2, quadrant // 2]) * 0.46 + rng.uniform(0.17, 0.37, 2)).tolist()
        things.append(_Thing(int(class_id), x, y, rng.uniform(0.13, 0.24), rng.uniform(0, 2 * np.pi)))
    return things


def _background(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Float[np.ndarray, "size size 3"]:
    """Smooth waves of two muted colours."""
    phase, fx, fy = rng.uniform(0, 2 * np.pi), *rng.uniform(-9, 9, 2)
    wave = 0.5 + 0.5 * np.sin(fx * x + fy * y + phase)[..., None]
    first, second = rng.uniform(0.3, 0.7, (2, 3))
    return wave * first + (1 - wave) * second


def _inside(shape: str, u: np.ndarray, v: np.ndarray) -> Bool[np.ndarray, "height width"]:
    """Which pixels of object coordinates (radius 1) belong to the shape."""
    distance, angle = np.hypot(u, v), np.arctan2(v, u)
    if shape == "disk":
        return distance < 0.9
    if shape == "square":
        return np.maximum(abs(u), abs(v)) < 0.8
    if shape == "triangle":
        return (v > -0.55) & (v < 0.95 - 1.7 * abs(u))
    if shape == "star":
        return distance < 0.7 + 0.35 * np.cos(5 * angle)
    return (distance > 0.5) & (distance < 1)


def _pattern(texture: str, u: np.ndarray, v: np.ndarray) -> Bool[np.ndarray, "height width"]:
    """Which of its two shades the texture has at a pixel."""
    if texture == "striped":
        return np.sin(9 * u) > 0
    if texture == "checked":
        return (np.sin(7 * u) > 0) ^ (np.sin(7 * v) > 0)
    if texture == "dotted":
        return np.sin(9 * u) * np.sin(9 * v) < 0.35
    return np.ones_like(u, bool)
