"""Where a query is similar to the supports: what a method that compares sees."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float

from mshnet_pl.backbones.base import Features
from mshnet_pl.errors import ConfigError
from mshnet_pl.inference.predictor import SupportCodes
from mshnet_pl.models.base import AbstractMethod, SimilarityMethod
from mshnet_pl.models.layers import resize


def fitted_name(name: str | None, codes: Mapping[str, object]) -> str:
    """The class that is meant: the only one, where none is named.

    Raises:
        ConfigError: no such class is fitted.
    """
    if name is None and len(codes) == 1:
        return next(iter(codes))
    if name is None or name not in codes:
        raise ConfigError(f"name={name}: give one of the fitted classes, {', '.join(codes) or 'of which there are none'}")
    return name


def mean_maps(
    method: AbstractMethod, query: Features, codes: SupportCodes, size: Sequence[int]
) -> dict[str, dict[int, Float[np.ndarray, "height width"]]]:
    """Mean similarity over layers and shots in the first view, by similarity and block.

    Args:
        method: compares.
        query: features of one image.
        codes: of the supports.
        size: height and width that the maps are resized to.

    Raises:
        ConfigError: a method without similarities.
    """
    if not isinstance(method, SimilarityMethod):
        raise ConfigError(f"{type(method).__name__} has no similarity maps; take a checkpoint of MSHNet")
    maps = [method.compare(query, code) for code in codes[0]]
    found: dict[str, dict[int, np.ndarray]] = {}
    for block, by_name in maps[0].items():
        for name in by_name:
            of_groups = [of_group[block][name].float().mean((1, 2)) for of_group in maps]  # of (1, K, L, h, w)
            mean = torch.stack(of_groups).mean(0)[:, None]  # (1, 1, h, w)
            found.setdefault(name, {})[block] = resize(mean, size)[0, 0].cpu().numpy()
    return found
