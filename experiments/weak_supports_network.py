"""Trains the networks that make masks of marks, on masks of PASCAL-5i's training lists.

    python experiments/weak_supports_network.py ROOT FILE

FILE, the package's ``completion.safetensors``, takes five networks: for each fold one that sees its fifteen base classes,
what pictures show of others as background (``novel_pixels=keep``), and one that sees all 20 classes. Marks are drawn as in
tests, those of ``DRAWS`` on every image, in groups of up to five images of a class. The first training sees the first round;
the second goes on with both rounds, in which two in three groups count as shots of an episode and the others as single
pictures.
"""

import sys
import time
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, binary_cross_entropy_with_logits
from weak_supports import SIDE, Tested

from mshnet_pl.data.io.transforms import resize_mask
from mshnet_pl.data.loading.weak_supports import weakened
from mshnet_pl.data.protocol.folds import make_fold
from mshnet_pl.data.protocol.split_lists import by_class
from mshnet_pl.inference.cell_relations import Appearance, Picture
from mshnet_pl.inference.completion import CellNetwork, first_round, next_round
from mshnet_pl.models.layers import directions
from mshnet_pl.options import EVERY_FOLD, Subset, SupportKind

DRAWS = {SupportKind.box: 1, SupportKind.scribble: 1, SupportKind.point: 1}
"""How often every image is marked so."""
HALF = slice(None, None, 2)
"""Marks are drawn on one in two pixels of every row and column."""
GROUP, BATCH, RATE, DECAY = 5, 16, 5e-3, 2e-2
EPOCHS = 6, 5
OVERLAP = 0.5
"""Weight of the loss of the intersection over union beside the cross-entropy."""


class Marked(NamedTuple):
    """A picture of the training lists, and what a network is to make of its marks."""

    name: str
    class_id: int
    group: int
    picture: Picture
    share: Tensor
    """Of the object in every cell, (h, w)."""
    first: Tensor
    """Relations of the first round in half precision."""


class Cells(NamedTuple):
    """Of n pictures the relations in half precision, and in every cell the object's share, what is free, what is marked."""

    relations: Tensor
    share: Tensor
    free: Tensor
    marked: Tensor


class Images:
    """Pictures of the training lists."""

    def __init__(self, tested: Tested) -> None:
        self._tested, self.appearance = tested, cache(self._compared)
        self.lists = by_class(tested.source.pairs(Subset.TRAIN))

    def _compared(self, name: str) -> Appearance:
        image = self._tested.image(name)
        features = self._tested.method.backbone(image)
        made = Appearance(directions(features)[0], features[-1].shape[1] * features[-1].shape[2], image[0])
        made.directions = made.directions.bfloat16()
        made.kernels = tuple(kernel.half() for kernel in made.kernels)
        return made

    def marked(self, class_id: int) -> Iterator[Marked]:
        """Every image of a class, marked by ``DRAWS``; a third of the groups with boxes have points in them too."""
        rng = np.random.default_rng((0, class_id))
        kinds = [kind for kind, times in DRAWS.items() for _ in range(times)]
        for repeat, kind in enumerate(kinds):
            for place, name in enumerate(str(name) for name in rng.permutation(self.lists[class_id])):
                shot, number = place % GROUP, 5000 * repeat + place // GROUP
                mask = resize_mask(self._tested.source.mask(name, [class_id]), SIDE)[HALF, HALF].numpy() == 1
                told = weakened(mask, kind, number, shot)
                if kind in (SupportKind.box, SupportKind.largest_box) and number % 3 == 0:
                    told = np.where(weakened(mask, SupportKind.point, number, shot) == 1, np.uint8(1), told)
                picture = Picture(self.appearance(name), torch.from_numpy(told))
                share = adaptive_avg_pool2d(torch.from_numpy(mask)[None].float(), picture.appearance.grid)[0]
                yield Marked(name, class_id, number, picture, share, first_round([picture])[0].half())


def first_cells(shown: list[Marked]) -> Cells:
    """Of the first round."""
    share = torch.stack([one.share for one in shown])
    free, marked = (torch.stack([getattr(one.picture, part) for one in shown]).view_as(share) for part in ("free", "marked"))
    return Cells(torch.stack([one.first for one in shown]), share, free, marked)


def second_round(shown: list[Marked], network: CellNetwork) -> Tensor:
    """Relations to what a network trained on the first round estimates; pictures of a group are shots in two of three."""
    groups: dict[tuple[int, int], list[int]] = {}
    for place, one in enumerate(shown):
        groups.setdefault((one.class_id, one.group), []).append(place)
    found: dict[int, Tensor] = {}
    for number, places in enumerate(groups.values()):
        odds = network(torch.stack([shown[place].first for place in places]).float())
        alone = [slice(i, i + 1) for i in range(len(places))]
        for shots in [slice(None)] if number % 3 else alone:
            relations = next_round([shown[place].picture for place in places[shots]], odds[shots]).half()
            found |= zip(places[shots], relations, strict=True)
    return torch.stack([found[place] for place in range(len(shown))])


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


def trained(shown: list[Marked], seed: int = 0) -> CellNetwork:
    """A network that saw these pictures."""
    torch.manual_seed(seed)
    first, network = first_cells(shown), CellNetwork()
    network.mean[:, 0, 0] = first.relations.float().mean((0, 2, 3))
    network.deviation[:, 0, 0] = first.relations.float().std((0, 2, 3)).clamp(min=0.05)
    train(network, first, EPOCHS[0])
    second = first._replace(relations=second_round(shown, network))
    train(network, Cells(*(torch.cat(parts) for parts in zip(first, second, strict=True))), EPOCHS[1])
    return network.eval()


def main(root: str, file: str) -> None:
    """Train and write."""
    torch.set_grad_enabled(False)
    begun, images = time.monotonic(), Images(Tested(root))
    marked = [one for class_id in images.lists for one in images.marked(class_id)]
    novel: dict[int | str, tuple[int, ...]] = {fold: make_fold(fold, 20).novel for fold in range(4)}
    kept: dict[str, Tensor] = {}
    for fold, hidden in {**novel, EVERY_FOLD: ()}.items():
        shown = [one for one in marked if one.class_id not in hidden]
        kept |= {f"{fold}.{key}": x.contiguous() for key, x in trained(shown).state_dict().items()}
        print(f"fold {fold}: {len(shown)} marked pictures, after {time.monotonic() - begun:.0f} s", flush=True)
    save_file(kept, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
