"""From a network and episodes to pictures of its similarities' energy (section 6.1 of the paper)."""

from collections.abc import Sequence

import numpy as np
import torch

from mshnet_pl.data.transforms import to_image
from mshnet_pl.episode import Episode
from mshnet_pl.models.energy import energy_maps, enlarge, separation
from mshnet_pl.models.mshnet import MSHNet
from mshnet_pl.report.energy import EnergyPicture


@torch.no_grad()
def energy_pictures(network: MSHNet, batch: Episode, titles: Sequence[str]) -> list[EnergyPicture]:
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
