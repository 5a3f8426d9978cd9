"""Trains the network that makes masks of marks, on masks of PASCAL-5i's training lists.

    python experiments/weak_supports_network.py ROOT OUT

Three networks: ``OUT/0-9.safetensors``, the package's, and ``OUT/10-19.safetensors``, of those classes alone, each for tests
on the others, and ``OUT/0-19.safetensors``. Marks are drawn as in tests: of every image a scribble, a point and a box, in
groups of up to five images of a class. The first training sees the first round; the second goes on with both rounds,
in which two in three groups count as shots of an episode and the others as single pictures.
"""

import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, binary_cross_entropy_with_logits
from weak_supports import SCORED, SIDE, Tested

from mshnet_pl.data.io.transforms import resize_mask
from mshnet_pl.data.loading.weak_supports import weakened
from mshnet_pl.data.protocol.split_lists import by_class
from mshnet_pl.inference.cell_relations import Picture
from mshnet_pl.inference.completion import CellNetwork, first_round, next_round
from mshnet_pl.options import Subset, SupportKind

DRAWS = SupportKind.box, SupportKind.scribble, SupportKind.point
CLASSES = range(10), range(10, 20), range(20)
GROUP, BATCH, RATE, DECAY = 5, 16, 5e-3, 2e-2
EPOCHS = 6, 5
OVERLAP = 0.5
"""Weight of the loss of the intersection over union beside the cross-entropy."""


class Group(NamedTuple):
    """Images of a class, marked in one way."""

    names: tuple[str, ...]
    class_id: int
    kind: SupportKind
    number: int
    with_point: bool
    """In boxes."""


class Cells(NamedTuple):
    """Of n pictures the relations in half precision, and in every cell the object's share, what is free, what is marked."""

    relations: Tensor
    share: Tensor
    free: Tensor
    marked: Tensor


def groups(lists: dict[int, list[str]], classes: range) -> list[Group]:
    """Every image once for each of ``DRAWS``."""
    rng, found = np.random.default_rng(0), []
    for class_id in classes:
        for repeat, kind in enumerate(DRAWS):
            names = [str(name) for name in rng.permutation(lists[class_id])]
            for start in range(0, len(names), GROUP):
                both = kind is SupportKind.box and start % (3 * GROUP) == 0
                number = 5000 * repeat + start
                found.append(Group(tuple(names[start : start + GROUP]), class_id, kind, number, both))
    return found


class Images:
    """Pictures of the training lists."""

    def __init__(self, tested: Tested) -> None:
        self._tested, self.mask = tested, cache(self._read)
        self.lists = by_class(tested.source.pairs(Subset.TRAIN))

    def _read(self, name: str, class_id: int) -> np.ndarray:
        return resize_mask(self._tested.source.mask(name, [class_id]), SIDE)[SCORED, SCORED].numpy() == 1

    def marked(self, group: Group) -> tuple[list[Picture], Tensor]:
        """The pictures of a group, and the true share of the object in every cell."""
        found, shares = [], []
        for shot, name in enumerate(group.names):
            mask = self.mask(name, group.class_id)
            told = weakened(mask, group.kind, group.number, shot)
            if group.with_point:
                told = np.where(weakened(mask, SupportKind.point, group.number, shot) == 1, np.uint8(1), told)
            picture = Picture(self._tested.appearance(name), torch.from_numpy(told))
            found.append(picture)
            shares.append(adaptive_avg_pool2d(torch.from_numpy(mask)[None].float(), picture.appearance.grid)[0])
        return found, torch.stack(shares)

    def cells(self, groups: list[Group], network: CellNetwork | None = None) -> Cells:
        """Of the first round, or with a network trained on it of the second."""
        made: list[tuple[Tensor, ...]] = []
        for number, group in enumerate(groups):
            pictures, share = self.marked(group)
            relations = first_round(pictures)
            if network is not None:
                odds = network(relations)
                alone = [slice(i, i + 1) for i in range(len(pictures))]
                shots = [slice(None)] if number % 3 else alone
                relations = torch.cat([next_round(pictures[shown], odds[shown]) for shown in shots])
            grid = share.shape[1:]
            known = (torch.stack([getattr(p, part) for p in pictures]).unflatten(1, grid) for part in ("free", "marked"))
            made.append((relations.half(), share, *known))
        return Cells(*(torch.cat(parts) for parts in zip(*made, strict=True)))


def loss(odds: Tensor, share: Tensor, free: Tensor, marked: Tensor) -> Tensor:
    """Cross-entropy where the object may be, and one less the mean intersection over union of shares."""
    entropy = (binary_cross_entropy_with_logits(odds, share, reduction="none") * free).sum() / free.sum()
    likely = marked + free * odds.sigmoid()
    both = likely * share
    overlap = both.sum((1, 2)) / (likely + share - both).sum((1, 2)).clamp(min=1e-3)
    return entropy + OVERLAP * (1 - overlap.mean())


def batches(of: Cells) -> Iterator[list[Tensor]]:
    """Every picture once, mirrored or transposed at random."""
    for chosen in torch.randperm(len(of.share)).split(BATCH):
        parts = [part[chosen].float() for part in of]
        if torch.rand(()) < 0.5:
            parts = [part.flip(-1) for part in parts]
        yield [part.mT for part in parts] if torch.rand(()) < 0.5 else parts


@torch.enable_grad()
def train(network: CellNetwork, of: Cells, epochs: int) -> None:
    """AdamW, the rate in one cycle."""
    steps = epochs * -(-len(of.share) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps + 1)
    for _ in range(epochs):
        for relations, *rest in batches(of):
            optimizer.zero_grad()
            loss(network(relations), *rest).backward()
            optimizer.step()
            schedule.step()


def main(root: str, out: str) -> None:
    """Train and write."""
    torch.set_grad_enabled(False)
    begun, images = time.monotonic(), Images(Tested(root))
    for classes in CLASSES:
        torch.manual_seed(0)
        chosen = groups(images.lists, classes)
        first = images.cells(chosen)
        network = CellNetwork()
        network.mean[:, 0, 0] = first.relations.float().mean((0, 2, 3))
        network.deviation[:, 0, 0] = first.relations.float().std((0, 2, 3)).clamp(min=0.05)
        train(network, first, EPOCHS[0])
        second = images.cells(chosen, network)
        train(network, Cells(*(torch.cat(parts) for parts in zip(first, second, strict=True))), EPOCHS[1])
        file = Path(out) / f"{classes[0]}-{classes[-1]}.safetensors"
        save_file({name: x.contiguous() for name, x in network.state_dict().items()}, file)
        print(f"{file}: {len(first.share)} marked pictures, after {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
