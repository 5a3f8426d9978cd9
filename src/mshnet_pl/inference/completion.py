"""From boxes, scribbles and points to masks: a small network decides by how cells relate to what is marked."""

from functools import cache
from importlib.resources import files

import torch
from jaxtyping import Bool, Float, UInt8
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn.functional import normalize

from mshnet_pl.backbones.base import Features
from mshnet_pl.data.io.marks import BACKGROUND, INSIDE, OBJECT
from mshnet_pl.inference.cell_relations import COUNT, Appearance, Picture, shared_ratios
from mshnet_pl.inference.guided_filter import guided_filter
from mshnet_pl.models.layers import directions, resize
from mshnet_pl.options import EVERY_FOLD

_ROUNDS = 2
_TOGETHER = 10
"""So many shots at most are compared with each other, which bounds memory and time."""
_RADIUS = 0.09
_GRID = 30
"""Cells a side, as the network was trained with; finer or coarser features are interpolated."""
_WIDTH, _DILATIONS = 16, (1, 2, 4)


class CellNetwork(nn.Module):
    """The log-odds of the object in every cell, from the cells' relations to what is marked; 8,065 parameters.

    Features themselves it never sees, so that it serves for classes and backbones that it was not trained on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.deviation = nn.Buffer(torch.zeros(COUNT, 1, 1)), nn.Buffer(torch.ones(COUNT, 1, 1))
        self.first = nn.Conv2d(COUNT, _WIDTH, 1)
        self.near = nn.ModuleList(nn.Conv2d(_WIDTH, _WIDTH, 3, padding=step, dilation=step) for step in _DILATIONS)
        self.whole = nn.ModuleList(nn.Linear(_WIDTH, _WIDTH) for _ in _DILATIONS)
        self.last = nn.Conv2d(_WIDTH, 1, 1)

    def forward(self, relations: Float[Tensor, "n 16 h w"]) -> Float[Tensor, "n h w"]:
        """Each of three steps adds what the cells around tell, and what the picture's mean tells."""
        x = self.first((relations - self.mean) / self.deviation).relu()
        for near, whole in zip(self.near, self.whole, strict=True):
            x = x + (near(x) + whole(x.mean((2, 3)))[:, :, None, None]).relu()
        return self.last(x)[:, 0]


def complete(
    features: Features,
    images: Float[Tensor, "shots 3 side side"],
    told: UInt8[Tensor, "shots side side"],
    fold: int | str = EVERY_FOLD,
) -> Bool[Tensor, "shots side side"]:
    """The object's mask in each image, estimated for the shots of an episode together.

    Every cell of a grid of 30 x 30 is described by its relations to the marks (``cell_relations``), from which a network
    estimates how likely it is the object's. In a second round the estimate takes the marks' place, and what the other shots
    show as the object and as the rest counts too. The probabilities are smoothed along the colours by the guided filter.
    What is marked stays as it is marked. The networks were trained on masks of PASCAL-5i's training lists; scores:
    experiments/weak_supports.md.

    Args:
        features: of the images.
        images: those of all shots, normalised.
        told: what is told of every pixel, see ``data.io.marks``.
        fold: of PASCAL-5i, for the network that was trained on its base classes; ``all`` for all 20 classes.

    Returns:
        Never empty where ``told`` is not background alone.
    """
    if not (told > OBJECT).any():
        return told == OBJECT
    network, made = trained_network(images.device, fold), []
    with torch.autocast(images.device.type, enabled=False):  # the exponential wants the cosines' digits
        maps, deepest = directions(features), features[-1].shape[1] * features[-1].shape[2]
        if maps.shape[2:] != (_GRID, _GRID):
            maps = normalize(resize(maps, (_GRID, _GRID)), dim=1)
        for shots in zip(maps.split(_TOGETHER), images.split(_TOGETHER), told.split(_TOGETHER), strict=True):
            appearances = [Appearance(of_shot, deepest, image) for of_shot, image, _ in zip(*shots, strict=True)]
            made.append(estimated_masks(network, appearances, *shots[1:]))
    return torch.cat(made)


def estimated_masks(
    network: CellNetwork,
    appearances: list[Appearance],
    images: Float[Tensor, "shots 3 side side"],
    told: UInt8[Tensor, "shots side side"],
) -> Bool[Tensor, "shots side side"]:
    """``complete`` where it is known how alike the images' cells are."""
    pictures = [Picture(*shot) for shot in zip(appearances, told, strict=True)]
    odds = network(first_round(pictures))
    for _ in range(_ROUNDS - 1):
        odds = network(next_round(pictures, odds))
    probability = resize(odds[:, None], told.shape[1:]).sigmoid() * (told != BACKGROUND)[:, None]
    smooth = guided_filter(images, probability, round(_RADIUS * max(told.shape)))[:, 0]
    made = (smooth > 0.5) & (told > OBJECT) | (told == OBJECT)
    return torch.where(made.any(2, keepdim=True).any(1, keepdim=True), made, told == INSIDE)


def first_round(pictures: list[Picture]) -> Float[Tensor, "k 16 h w"]:
    """Relations to the marks."""
    return torch.stack([picture.relations(picture.begun) for picture in pictures])


def next_round(pictures: list[Picture], odds: Float[Tensor, "k h w"]) -> Float[Tensor, "k 16 h w"]:
    """Relations to what was estimated, in the place of the marks, with those to the other pictures."""
    weights = [picture.estimated(of.flatten()) for picture, of in zip(pictures, odds, strict=True)]
    shared = shared_ratios(pictures, weights)
    return torch.stack([picture.relations(of, ratio) for picture, of, ratio in zip(pictures, weights, shared, strict=True)])


@cache
def trained_network(device: torch.device, fold: int | str = EVERY_FOLD) -> CellNetwork:
    """One of those that experiments/weak_supports_network.py trained; see ``complete``."""
    with torch.random.fork_rng(devices=[]):
        network, prefix = CellNetwork().float().requires_grad_(False).eval(), f"{fold}."
    kept = load(files("mshnet_pl.inference").joinpath("completion.safetensors").read_bytes())
    network.load_state_dict({key.removeprefix(prefix): x for key, x in kept.items() if key.startswith(prefix)})
    return network.to(device)
