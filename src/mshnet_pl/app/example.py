"""The page's example, a real photo: one coin is outlined, the others are looked for."""

from importlib.resources import files

import numpy as np
from jaxtyping import Bool
from PIL import Image, ImageDraw

_ONE, _OUTLINE = (296, 4, 384, 84), (9, 10, 69, 70)
"""Left, upper, right and lower edge of the part of the photo that shows one coin, and in that, of the coin."""


def photo() -> Image.Image:
    """Greek coins, 384 x 303 pixels, RGB; ``coins.txt`` says whose it is."""
    with (files("mshnet_pl.app") / "coins.png").open("rb") as file:
        return Image.open(file).convert("RGB")


def one_coin() -> tuple[Image.Image, Bool[np.ndarray, "height width"]]:
    """The part of the photo with one coin, and where the coin is."""
    image = photo().crop(_ONE)
    mask = Image.new("1", image.size)
    ImageDraw.Draw(mask).ellipse(_OUTLINE, fill=1)
    return image, np.asarray(mask)
