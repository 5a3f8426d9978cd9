"""How well every similarity by itself tells object from background; the prototype's weights are random.

Prints for every similarity and block the area under the ROC curve of the mean over the block's layers, in percent, over
1-shot training episodes: base classes only. ``within`` is the mean over episodes, ``pooled`` takes the pixels of all of them
as one picture, so that a level that differs from episode to episode costs. ``others`` is the mean over those episodes whose
query shows labelled objects of other classes, too, over the pixels of labelled objects alone.

    python experiments/separation.py EPISODES data.root=ROOT backbone.weights=WEIGHTS SETTING=VALUE ...
"""

import sys
from collections import defaultdict
from statistics import fmean

import hydra
import torch
from torch import Tensor

from mshnet_pl import config
from mshnet_pl.data.io.transforms import resize_mask
from mshnet_pl.evaluation.energy import energy_maps, enlarge, separation
from mshnet_pl.models.base import SimilarityMethod
from mshnet_pl.options import UNKNOWN
from mshnet_pl.report.formats import aligned
from mshnet_pl.runs import build
from mshnet_pl.runs.job import Run

STRIDE = 4
"""Every how many pixels of the query are looked at, in both directions."""
SIMILARITIES = ("cosine", "prototype", "centred", "contrast")


def main(episodes: int, overrides: list[str]) -> None:
    """Look at the first episodes of training."""
    raw = config.compose("experiment=pascal5i_mini", f"similarity=[{','.join(SIMILARITIES)}]", *overrides)
    run = Run.of(raw)
    data = build.make_datamodule(run)
    data.setup()
    method = build.make_module(run).method.eval()
    assert isinstance(method, SimilarityMethod)
    found: dict[tuple[str, int], list[Tensor]] = defaultdict(list)
    source = hydra.utils.instantiate(raw.data.source)
    classes = range(len(data.class_names))
    truths, objects = [], []
    with torch.inference_mode():
        for number in range(episodes):
            episode = data.training_batch([number])
            truth = episode.query_mask[0]
            truths.append(truth[::STRIDE, ::STRIDE].flatten())
            labelled = resize_mask(source.mask(data.training_draws(number)[0].query, classes), data.image_size) == 1
            objects.append(torch.where(labelled, truth, UNKNOWN)[::STRIDE, ::STRIDE].flatten())
            for name, by_block in energy_maps(method, episode).items():
                for block, energy in by_block.items():
                    found[name, block].append(enlarge(energy[0], truth)[::STRIDE, ::STRIDE].flatten())
    lines = [["similarity", "block", "within", "pooled", "others"], ["---", *["---:"] * 4]]
    for (name, block), energies in found.items():
        pooled = separation(torch.cat(energies), torch.cat(truths))
        areas = mean_separation(energies, truths), pooled, mean_separation(energies, objects)
        lines.append([name, str(block), *(f"{area:.1f}" for area in areas)])
    print(aligned(lines))


def mean_separation(energies: list[Tensor], truths: list[Tensor]) -> float:
    """Over the episodes in which there is something to separate."""
    areas = [separation(energy, truth) for energy, truth in zip(energies, truths, strict=True)]
    return fmean(area for area in areas if area == area)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
