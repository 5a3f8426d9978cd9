"""What methods draw at random, so that an episode draws the same wherever it is met."""

import zlib

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def generators(support_mask: Float[Tensor, "batch shots height width"], training: bool) -> list[torch.Generator]:
    """A random generator for every episode, on the CPU.

    In training they follow PyTorch's own, which is seeded by the step; otherwise the supports' masks, so that neither
    the batch nor the order of episodes nor the command matters.
    """
    if training:
        seeds = torch.randint(2**31, (len(support_mask),)).tolist()
    else:
        packed = np.packbits((support_mask == 1).cpu().numpy(), axis=-1)
        seeds = [zlib.crc32(of_episode.tobytes()) for of_episode in packed]
    return [torch.Generator().manual_seed(seed) for seed in seeds]
