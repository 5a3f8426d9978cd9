"""RPMM's mixture of prototypes: expectation maximisation without parameters and without gradient."""

import torch
from jaxtyping import Float
from torch import Tensor

_KAPPA = 20.0
_ITERATIONS = 10
_EPS = 1e-6


def mixture(
    pixels: Float[Tensor, "batch n channels"], start: Float[Tensor, "batch channels k"]
) -> Float[Tensor, "batch k channels"]:
    """Unit means of k components after ten steps; about zero where a component has died.

    Args:
        pixels: features of all positions, zero where they do not count.
        start: the means' first directions.
    """
    means = _unit(start)
    for _ in range(_ITERATIONS):
        share = (_KAPPA * pixels @ means).softmax(2)  # (B, N, k)
        means = _unit(pixels.transpose(1, 2) @ share / (_EPS + share.sum(1, keepdim=True)))
    return means.transpose(1, 2)


def probabilities(
    query: Float[Tensor, "batch channels h w"],
    foreground: Float[Tensor, "_ k channels"],
    background: Float[Tensor, "_ k channels"],
) -> Float[Tensor, "batch 2 h w"]:
    """How likely a query pixel is of any background component (first), and of any foreground component."""
    products = torch.cat([background, foreground], dim=1) @ query.flatten(2)  # (B, 2 k, h w)
    by_side = products.softmax(1).unflatten(1, (2, foreground.shape[1])).sum(2)
    return by_side.unflatten(2, query.shape[2:])


def _unit(x: Float[Tensor, "batch channels k"]) -> Float[Tensor, "batch channels k"]:
    return x / (_EPS + x.norm(dim=1, keepdim=True))
