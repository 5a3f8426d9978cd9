"""From an image and a mask to tensors of the size that the network sees."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from mshnet_pl.episode import MEAN, STD


def to_input(image: Image.Image, size: int) -> Float[Tensor, "3 size size"]:
    """Resize to a square and normalise."""
    return normalise(to_square(image, size))


def to_square(image: Image.Image, size: int) -> UInt8[Tensor, "size size 3"]:
    """Resize bilinearly to a square."""
    return torch.from_numpy(np.array(image.resize((size, size), Image.Resampling.BILINEAR)))


def normalise(image: UInt8[Tensor, "height width 3"]) -> Float[Tensor, "3 height width"]:
    """Scale to 0..1, normalise with ImageNet's mean and standard deviation."""
    planes = image.permute(2, 0, 1).contiguous()  # bytes are quick to transpose, and the rest then runs along memory
    return planes.float().div_(255).sub_(MEAN).div_(STD)


def to_image(image: Float[Tensor, "3 height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """The picture that ``normalise`` took."""
    pixels = (image.cpu().float() * STD + MEAN).clamp(0, 1).mul(255).round()
    return pixels.byte().permute(1, 2, 0).numpy()


def resize_mask(mask: UInt8[np.ndarray, "height width"], size: int) -> UInt8[Tensor, "size size"]:
    """Nearest-neighbour resize to a square (PyTorch's ``nearest``)."""
    return interpolate(torch.from_numpy(mask)[None, None], (size, size), mode="nearest")[0, 0]
