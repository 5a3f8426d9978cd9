"""What the default network scores on PASCAL-5i with boxes, scribbles and points for masks, and how well it tells presence.

    python experiments/weak_supports.py ROOT MINUTES NETWORKS [base]

Novel classes of every fold, or with ``base`` classes 10 to 19, where constants are chosen; 473 x 473; the package's seeded
episodes, episode n of every fold before episode n + 1 of any, until the minutes are over. Masks are made by that of NETWORKS
(see ``weak_supports_network.py``) which was trained on the ten classes without the episode's; folds without such a network
are left out. Presence: the first query of each one-shot episode with masks, and as many queries that do not show the class.
"""

import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from mshnet_pl.data.io.transforms import resize_mask, to_input
from mshnet_pl.data.loading.weak_supports import weakened
from mshnet_pl.data.protocol.folds import make_fold
from mshnet_pl.data.protocol.sampling import Draw, draw_seeded
from mshnet_pl.data.protocol.split_lists import by_class
from mshnet_pl.data.sources import Pascal5i
from mshnet_pl.evaluation.metrics import episode_counts
from mshnet_pl.inference import pretrained
from mshnet_pl.inference.cell_relations import Appearance
from mshnet_pl.inference.completion import CellNetwork, estimated_masks
from mshnet_pl.inference.guided_filter import guided_logits
from mshnet_pl.inference.presence import presence
from mshnet_pl.models.layers import directions
from mshnet_pl.options import Subset, SupportKind
from mshnet_pl.report.bootstrap import Scored, estimate, fold_spread
from mshnet_pl.report.counts import MIOU
from mshnet_pl.report.counts import episode_counts as pixel_counts
from mshnet_pl.report.episode_images import EpisodeImages
from mshnet_pl.report.formats import aligned

SIDE, SEED = 473, 0
SCORED = slice(None, None, 2)  # masks, colours and scores at one in two pixels of every row and column
EVERY = {1: 1, 5: 4}
"""A five-shot episode for every fourth one-shot episode."""

Row = tuple[int, Tensor, Draw]
"""Fold, counts and images of an episode."""
Rows = dict[tuple[SupportKind, int], list[Row]]


class Tested:
    """The network, features of every image kept in half precision, and counts of episodes."""

    def __init__(self, root: str, networks: str = "") -> None:
        files = {first: Path(networks, f"{10 - first}-{19 - first}.safetensors") for first in (0, 10)}
        self.networks = {first: read(file) for first, file in files.items() if file.exists()}
        self.source = Pascal5i(root, f"{root}/splits")
        self.source.check()
        self.method = pretrained.load().trained.method.eval()
        self.names = by_class(self.source.pairs(Subset.VAL))
        self.kept, self.appearance = cache(self._computed), cache(self._compared)

    def _computed(self, name: str) -> tuple[Tensor, ...]:
        image = to_input(self.source.image(name), SIDE)[None]
        return (*(f.half() for f in self.method.backbone(image)[1:]), image[:, :, SCORED, SCORED].half())

    def _compared(self, name: str) -> Appearance:
        features = self.features(name)
        deepest = features[-1].shape[1] * features[-1].shape[2]
        made = Appearance(directions(features)[0], deepest, self.colours(name)[0])
        made.directions = made.directions.bfloat16()
        made.kernels = tuple(kernel.half() for kernel in made.kernels)
        return made

    def features(self, name: str) -> tuple[Tensor, ...]:
        """Of one image: blocks 3, 4 and 5."""
        return tuple(f.float() for f in self.kept(name)[:-1])

    def colours(self, name: str) -> Tensor:
        """The image that is filtered along."""
        return self.kept(name)[-1].float()

    def support_masks(self, draw: Draw, kind: SupportKind, number: int) -> Tensor:
        """Made of the marks, (K, S, S)."""
        told = []
        for shot, name in enumerate(draw.supports):
            mask = resize_mask(self.source.mask(name, [draw.class_id]), SIDE)[SCORED, SCORED].numpy() == 1
            told.append(torch.from_numpy(weakened(mask, kind, number, shot)))
        if kind is SupportKind.mask:
            return torch.stack(told) == 1
        network = self.networks[10 * (draw.class_id >= 10)]
        colours = torch.cat([self.colours(name) for name in draw.supports])
        return estimated_masks(network, [*map(self.appearance, draw.supports)], colours, torch.stack(told))

    def code(self, draw: Draw, masks: Tensor) -> object:
        """What is kept of the supports."""
        blocks = zip(*(self.features(name) for name in draw.supports), strict=True)
        return self.method.encode(tuple(torch.cat(block)[None] for block in blocks), masks[None].float())

    def margin(self, query: str, code: object) -> Tensor:
        """Of the filtered prediction, (S, S)."""
        logits = self.method.decode(self.features(query), code).logits
        return guided_logits(logits, self.colours(query), 0.09)[0, 1]

    def counted(self, draw: Draw, margin: Tensor, number: int) -> Tensor:
        """The row of an episode."""
        mask = resize_mask(self.source.mask(draw.query, [draw.class_id]), SIDE)[SCORED, SCORED]
        predicted = (margin > 0).to(torch.uint8)
        return episode_counts(predicted[None], mask[None], torch.tensor([draw.class_id]), torch.tensor([number]))


def read(file: Path) -> CellNetwork:
    """A trained network."""
    network = CellNetwork().eval()
    network.load_state_dict(load_file(file))
    return network


def auroc(positive: list[float], negative: list[float]) -> float:
    """The share of pairs in which the one that shows the class scores higher, in percent."""
    p, n = np.array(positive)[:, None], np.array(negative)
    return float(100 * ((p > n) + 0.5 * (p == n)).mean())


def main(root: str, minutes: float, networks: str, base: bool) -> None:
    """Print both tables."""
    torch.set_grad_enabled(False)
    tested, end = Tested(root, networks), time.monotonic() + 60 * minutes
    folds = [make_fold(fold, 20).novel for fold in range(4)]
    groups = [tuple(range(10, 20))] if base else [novel for novel in folds if 10 * (novel[0] >= 10) in tested.networks]
    rows: Rows = {}
    agreement: dict[SupportKind, list[float]] = {kind: [] for kind in SupportKind}
    shown: list[tuple[float, ...]] = []
    absent: list[tuple[float, ...]] = []
    number = 0
    while time.monotonic() < end:
        for fold, classes in enumerate(groups):
            for shot in (shot for shot, step in EVERY.items() if number % step == 0):
                draw = draw_seeded(tested.names, classes, shot, SEED, number)[0]
                true = tested.support_masks(draw, SupportKind.mask, number)
                for kind in SupportKind:
                    masks = true if kind is SupportKind.mask else tested.support_masks(draw, kind, number)
                    code = tested.code(draw, masks)
                    margin = tested.margin(draw.query, code)
                    rows.setdefault((kind, shot), []).append((fold, tested.counted(draw, margin, number), draw))
                    overlap = (masks & true).sum((1, 2)) / (masks | true).sum((1, 2)).clamp(min=1)
                    agreement[kind] += overlap.tolist()
                    if kind is SupportKind.mask and shot == 1:
                        shown.append(of_map(margin))
                        absent.append(of_map(tested.margin(without(tested, classes, draw, number), code)))
        number += 1
        if number % 10 == 0:
            print(f"{number} episodes a fold", file=sys.stderr, flush=True)
    report(rows, agreement)
    for name, p, n in zip(NAMES, zip(*shown, strict=True), zip(*absent, strict=True), strict=True):
        print(f"{name}: AUROC {auroc([*p], [*n]):.1f}; threshold of least errors {best(p, n)}")


def without(tested: Tested, classes: tuple[int, ...], draw: Draw, number: int) -> str:
    """An image of another class of the fold that does not show this one."""
    contents = tested.source.contents(Subset.VAL)
    others = sorted({n for c in classes for n in tested.names[c] if draw.class_id not in contents[n]})
    return others[int(np.random.default_rng((SEED, 9, number, draw.class_id)).integers(len(others)))]


NAMES = ("presence", "mean probability", "maximum", "mean of the top 1%", "mean of the top 5%", "area", "mean inside")


def of_map(margin: Tensor) -> tuple[float, ...]:
    """Scores of presence."""
    p = margin.sigmoid()
    top = p.flatten().sort(descending=True).values
    inside = p[margin > 0]
    return (
        presence(margin), float(p.mean()), float(p.max()), float(top[: len(top) // 100].mean()),
        float(top[: len(top) // 20].mean()), float((margin > 0).float().mean()),
        float(inside.mean()) if len(inside) else 0.0,
    )  # fmt: skip


def best(positive: tuple[float, ...], negative: tuple[float, ...]) -> str:
    """The threshold with the highest mean of both rates, and these."""
    p, n = np.array(positive), np.array(negative)
    rates = [((p >= t).mean(), (n < t).mean(), t) for t in np.unique(np.concatenate([p, n]))]
    found, rejected, threshold = max(rates, key=lambda one: one[0] + one[1])
    return f"{threshold:.4f} finds {100 * found:.0f}% and rejects {100 * rejected:.0f}%"


def report(rows: dict[tuple[SupportKind, int], list[Row]], agreement: dict[SupportKind, list[float]]) -> None:
    """The table of scores; intervals by images."""
    table = [["support", "shots", "mIoU", "less masks", "IoU of the mask made", "episodes"], ["---"] * 2 + ["---:"] * 4]
    for (kind, shot), found in rows.items():
        less = rows[SupportKind.mask, shot]
        difference = told(found, less, "+.1f") if kind is not SupportKind.mask else ""
        share = f"{100 * np.mean(agreement[kind]):.0f}"
        table.append([kind.value, str(shot), told(found), difference, share, str(len(found))])
    print(aligned(table))


def told(found: list[Row], less: list[Row] | None = None, form: str = ".1f") -> str:
    """Mean over folds of the mIoU, or of the difference of two, with its interval."""
    tests = []
    for fold in sorted({fold for fold, _, _ in found}):
        draws = [draw for f, _, draw in found if f == fold]
        images = EpisodeImages(
            tuple(d.query for d in draws), tuple(d.supports for d in draws), tuple(d.class_id for d in draws), 1
        )
        counts = [
            pixel_counts(torch.cat([row for f, row, _ in of if f == fold]).numpy()) if of else None for of in (found, less)
        ]
        assert counts[0] is not None
        tests.append(Scored(images, tuple(f"class {c}" for c in counts[0].classes), *counts))
    made = estimate(float(np.mean([test.value(MIOU) for test in tests])), [fold_spread([[test]], MIOU) for test in tests])
    return f"{made.value:{form}} [{made.low:.1f}, {made.high:.1f}]"


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3], "base" in sys.argv[4:5])
