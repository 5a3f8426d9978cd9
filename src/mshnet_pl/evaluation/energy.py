"""How much energy a network's similarities put on the query (section 6.1), and how well it tells object from background."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from mshnet_pl.data.io.transforms import to_image
from mshnet_pl.episode import Episode
from mshnet_pl.models.base import SimilarityMethod
from mshnet_pl.models.layers import resize

Energy = dict[str, dict[int, Float[Tensor, "batch h w"]]]
"""Energy on the query by the similarity's name and by block (2, 3, 4), each on its block's grid."""


class EnergyPicture(NamedTuple):
    """An episode and the energy on its query, as arrays."""

    title: str
    query: np.ndarray
    """(S, S, 3) uint8."""
    support: np.ndarray
    """(K, S, S, 3) uint8."""
    support_mask: np.ndarray
    """(K, S, S): 1 on the object."""
    truth: np.ndarray
    """(H, W) uint8: 1 on the object, 0 elsewhere, 255 where nothing is known."""
    energy: Mapping[str, Mapping[int, np.ndarray]]
    """By similarity and block: (H, W) float."""
    separation: Mapping[str, Mapping[int, float]]
    """By similarity and block: area under the ROC curve in percent."""


def energy_maps(network: SimilarityMethod, episode: Episode) -> Energy:
    """The mean of every similarity over a block's layers and over all shots."""
    maps = network.similarity_maps(episode.query, episode.support, episode.support_mask)
    return {
        name: {block: by_name[name].float().mean((1, 2)) for block, by_name in maps.items()} for name in network.similarities
    }


def enlarge(energy: Float[Tensor, "h w"], truth: UInt8[Tensor, "height width"]) -> Float[Tensor, "height width"]:
    """One map at its truth's resolution, bilinearly with aligned corners; a constant map stays one, to the last bit."""
    least = energy.min()
    return resize((energy - least)[None, None], truth.shape)[0, 0] + least


def separation(energy: Float[Tensor, "height width"], truth: UInt8[Tensor, "height width"]) -> float:
    """Area under the ROC curve, in percent: how often a pixel of the object has more energy than one of the background.

    Args:
        energy: any finite values; ties count half.
        truth: 1 on the object, 0 elsewhere, 255 where nothing is known.

    Returns:
        0 to 100; 50 is chance, NaN without object or without background.
    """
    objects, rest = energy[truth == 1], energy[truth == 0]
    if not len(objects) or not len(rest):
        return torch.nan
    levels, level = torch.cat([objects, rest]).unique(return_inverse=True)
    rest_at = level[len(objects) :].bincount(minlength=len(levels))
    twice_won = 2 * rest_at.cumsum(0) - rest_at  # (levels,) pairs won by an object pixel of that level, ties half
    return 50 * float(twice_won[level[: len(objects)]].double().mean()) / len(rest)


@torch.no_grad()
def energy_pictures(network: SimilarityMethod, batch: Episode, titles: Sequence[str]) -> list[EnergyPicture]:
    """Every row of a batch with its energy maps at the truth's resolution, and how well they separate."""
    found = []
    energy = energy_maps(network, batch)
    for i, (height, width) in enumerate(batch.query_size.tolist()):
        truth = batch.query_mask[i, :height, :width]
        maps = {name: {block: enlarge(e[i], truth) for block, e in by_block.items()} for name, by_block in energy.items()}
        found.append(
            EnergyPicture(
                title=titles[i],
                query=to_image(batch.query[i]),
                support=np.stack([to_image(image) for image in batch.support[i]]),
                support_mask=batch.support_mask[i].cpu().numpy(),
                truth=truth.cpu().numpy(),
                energy={name: {b: e.cpu().numpy() for b, e in by_block.items()} for name, by_block in maps.items()},
                separation={name: {b: separation(e, truth) for b, e in by_block.items()} for name, by_block in maps.items()},
            )
        )
    return found
