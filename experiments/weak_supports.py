"""What the default network scores on PASCAL-5i with boxes, scribbles and points for masks, and how well it tells presence.

    python experiments/weak_supports.py ROOT MINUTES

As ``mshnet-test`` does it: novel classes of every fold, ``eval.guided`` and ``eval.zooms`` as the network's file says, masks
made by the fold's own network (see ``weak_supports_network.py``), 473 x 473, the package's seeded episodes; episode n of
every fold before episode n + 1 of any, until the minutes are over. Presence: the query of each one-shot episode with masks,
and as many queries that do not show the class.
"""

import sys
import time
from functools import cache

import numpy as np
import torch
from torch import Tensor

from mshnet_pl.data.io.transforms import normalise, resize_mask, to_square
from mshnet_pl.data.loading.cached_backbone import CachedBackbone
from mshnet_pl.data.loading.dataset import image_ids
from mshnet_pl.data.loading.feature_cache import FeatureMemory, FeatureShape
from mshnet_pl.data.loading.weak_supports import weakened
from mshnet_pl.data.protocol.folds import make_fold
from mshnet_pl.data.protocol.sampling import Draw, draw_seeded
from mshnet_pl.data.protocol.split_lists import by_class
from mshnet_pl.data.sources import Pascal5i
from mshnet_pl.evaluation.metrics import episode_counts
from mshnet_pl.inference import pretrained
from mshnet_pl.inference.labels import margins
from mshnet_pl.inference.predictor import Predictor, SupportCodes
from mshnet_pl.inference.presence import presence
from mshnet_pl.options import Subset, SupportKind
from mshnet_pl.report.bootstrap import Scored, estimate, fold_spread
from mshnet_pl.report.counts import MIOU
from mshnet_pl.report.counts import episode_counts as pixel_counts
from mshnet_pl.report.episode_images import EpisodeImages
from mshnet_pl.report.formats import aligned

SIDE, SEED = 473, 0
EVERY = {1: 1, 5: 4}
"""A five-shot episode for every fourth one-shot episode."""
KINDS = SupportKind.mask, SupportKind.box, SupportKind.scribble, SupportKind.point
MEGABYTES = 5000
"""Of kept features."""

Row = tuple[int, Tensor, Draw]
"""Fold, counts and images of an episode."""
Rows = dict[tuple[SupportKind, int], list[Row]]


class Tested:
    """The network, features of every image, and counts of episodes.

    Args:
        root: of PASCAL-5i.
        size: side S of the square that images are resized to, enlarged to the network's for its features alone.
    """

    def __init__(self, root: str, size: int = SIDE) -> None:
        self.source = Pascal5i(root, f"{root}/splits")
        self.source.check()
        trained = pretrained.load().trained
        self._size, prediction = size, {**trained.prediction, "scales": [SIDE / size]}
        self.method = trained.method.eval()
        blocks = [
            FeatureShape((x.shape[1], *x.shape[3:], x.shape[2]), x.dtype)
            for x in self._features(torch.zeros(1, 3, SIDE, SIDE))
        ]
        self._memory, backbone = FeatureMemory(blocks, MEGABYTES), CachedBackbone(self.method.backbone)
        backbone.use(self._memory)
        self.predictors = [Predictor(self.method, **prediction, backbone=backbone, fold=fold) for fold in range(4)]
        self.names, self._ids = by_class(self.source.pairs(Subset.VAL)), image_ids(self.source)
        self._square = cache(lambda name: to_square(self.source.image(name), size))

    def _features(self, image: Tensor) -> tuple[Tensor, ...]:
        features: tuple[Tensor, ...] = self.method.backbone(image)
        return features

    def image(self, name: str) -> Tensor:
        """(1, 3, S, S)."""
        return normalise(self._square(name))[None]

    def shown(self, *names: str) -> tuple[Tensor, Tensor]:
        """Images (n, 3, S, S) and their numbers; their features are kept, unless they are enlarged."""
        images, ids = torch.cat([self.image(name) for name in names]), [self._ids[name] for name in names]
        for number in self._memory.absent(ids) if self._size == SIDE else ():
            self._memory.put(number, self._features(images[ids.index(number), None]))
        return images, torch.tensor(ids)

    def mask(self, name: str, class_id: int) -> Tensor:
        """1 on the class, 255 where nothing is known, (S, S)."""
        return resize_mask(self.source.mask(name, [class_id]), self._size)

    def support_masks(self, fold: int, draw: Draw, kind: SupportKind, number: int) -> Tensor:
        """Made of the marks, (K, S, S)."""
        masks = ((self.mask(name, draw.class_id) == 1).numpy() for name in draw.supports)
        told = torch.stack([torch.from_numpy(weakened(mask, kind, number, shot)) for shot, mask in enumerate(masks)])
        if kind is SupportKind.mask:
            return told == 1
        images, ids = self.shown(*draw.supports)
        return self.predictors[fold].completed(images, told[None], ids)[0] == 1

    def code(self, fold: int, draw: Draw, masks: Tensor) -> SupportCodes:
        """What is kept of the supports."""
        images, ids = self.shown(*draw.supports)
        return self.predictors[fold].encode(images[None], masks[None].float(), ids[None])

    def margin(self, fold: int, query: str, code: SupportCodes) -> Tensor:
        """Of the filtered prediction, (S, S)."""
        image, ids = self.shown(query)
        (logits,) = self.predictors[fold].decode(image, [code], ids)
        return margins(logits, (self._size, self._size))[0]

    def counted(self, draw: Draw, margin: Tensor, number: int) -> Tensor:
        """The row of an episode."""
        predicted, mask = (margin > 0).to(torch.uint8), self.mask(draw.query, draw.class_id)
        return episode_counts(predicted[None], mask[None], torch.tensor([draw.class_id]), torch.tensor([number]))


def auroc(positive: list[float], negative: list[float]) -> float:
    """The share of pairs in which the one that shows the class scores higher, in percent."""
    p, n = np.array(positive)[:, None], np.array(negative)
    return float(100 * ((p > n) + 0.5 * (p == n)).mean())


def main(root: str, minutes: float) -> None:
    """Print both tables."""
    torch.set_grad_enabled(False)
    tested, end = Tested(root), time.monotonic() + 60 * minutes
    rows: Rows = {}
    agreement: dict[tuple[SupportKind, int], list[float]] = {}
    shown: list[tuple[float, ...]] = []
    absent: list[tuple[float, ...]] = []
    number = 0
    while time.monotonic() < end:
        for fold in range(4):
            classes = make_fold(fold, 20).novel
            for shot in (shot for shot, step in EVERY.items() if number % step == 0):
                draw = draw_seeded(tested.names, classes, shot, SEED, number)[0]
                true = tested.support_masks(fold, draw, SupportKind.mask, number)
                for kind in KINDS:
                    masks = true if kind is SupportKind.mask else tested.support_masks(fold, draw, kind, number)
                    code = tested.code(fold, draw, masks)
                    margin = tested.margin(fold, draw.query, code)
                    rows.setdefault((kind, shot), []).append((fold, tested.counted(draw, margin, number), draw))
                    overlap = (masks & true).sum((1, 2)) / (masks | true).sum((1, 2)).clamp(min=1)
                    agreement.setdefault((kind, shot), []).extend(overlap.tolist())
                    if kind is SupportKind.mask and shot == 1:
                        shown.append(of_map(margin))
                        absent.append(of_map(tested.margin(fold, without(tested, classes, draw, number), code)))
        number += 1
        if number % 20 == 0:
            print(f"{number} episodes a fold\n{report(rows, agreement)}", file=sys.stderr, flush=True)
    print(report(rows, agreement))
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


def report(rows: dict[tuple[SupportKind, int], list[Row]], agreement: dict[tuple[SupportKind, int], list[float]]) -> str:
    """The table of scores; intervals by images."""
    table = [["support", "shots", "mIoU", "less masks", "IoU of the mask made", "episodes"], ["---"] * 2 + ["---:"] * 4]
    for (kind, shot), found in rows.items():
        less = rows[SupportKind.mask, shot]
        difference = told(found, less, "+.1f") if kind is not SupportKind.mask else ""
        share = f"{100 * np.mean(agreement[kind, shot]):.0f}"
        table.append([kind.value, str(shot), told(found), difference, share, str(len(found))])
    return aligned(table)


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
    interval = "" if made.low is None or made.high is None else f" [{made.low:.1f}, {made.high:.1f}]"  # too few images
    return f"{made.value:{form}}{interval}"


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
