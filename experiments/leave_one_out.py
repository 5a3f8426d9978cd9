"""What a threshold that the supports choose gives on base classes of PASCAL-5i, by the number of shots.

    python experiments/leave_one_out.py ROOT EPISODES

Classes 10 to 19, which are base classes of folds 0 and 1; the default network. The shots of an episode are the first of its
ten, so that numbers of shots are compared on the same queries.
"""

import sys
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from mshnet_pl.backbones import EfficientNetLite0
from mshnet_pl.backbones.base import Features
from mshnet_pl.data.io.transforms import resize_mask, to_input
from mshnet_pl.data.protocol.sampling import Draw, draw_seeded
from mshnet_pl.data.protocol.split_lists import by_class
from mshnet_pl.data.sources import Pascal5i
from mshnet_pl.inference import leave_one_out
from mshnet_pl.inference.guided_filter import guided_logits
from mshnet_pl.inference.zoom import around, cut
from mshnet_pl.models import DensityRatio
from mshnet_pl.options import Subset
from mshnet_pl.report.formats import aligned

CLASSES, SEED, SIZE, SHOTS = range(10, 20), 7, 473, (1, 2, 3, 5, 10)
GUIDED, ZOOMS = 0.09, (1.2, 2.0)
OTHERS = {"two others": 2, "four others": 4, "all others": max(SHOTS)}
IDEAS = ("the network's own", "four others, without the network's own", *OTHERS)


class Data:
    """Images, masks and features of the validation images."""

    def __init__(self, root: str) -> None:
        self.source = Pascal5i(root, f"{root}/splits")
        self.source.check()
        self.names = by_class(self.source.pairs(Subset.VAL))
        self.method = DensityRatio(EfficientNetLite0(last_stage=True)).eval()
        self.image, self.mask = cache(self._image), cache(self._mask)
        self.features, self.looks = cache(self._features), cache(self._looks)

    def _image(self, name: str) -> Tensor:
        return to_input(self.source.image(name), SIZE)[None]

    def _mask(self, name: str, class_id: int) -> Tensor:
        return resize_mask(self.source.mask(name, [class_id]), SIZE)

    def _features(self, name: str) -> Features:
        return self._kept(self.image(name))

    def _looks(self, name: str, class_id: int) -> list[tuple[Features, Tensor]]:
        """A support as it is, and by its zooms."""
        image, mask = self.image(name), (self.mask(name, class_id) == 1).float()
        found = [(self.features(name), mask)]
        for zoom in ZOOMS:
            part = around(mask, zoom)
            nearer = (
                (self._kept(cut(image, [part])), cut(mask[None, None], [part], smooth=False)[0, 0]) if part else found[0]
            )
            found.append(nearer)
        return found

    def _kept(self, image: Tensor) -> Features:
        return tuple(f.half() for f in self.method.backbone(image))

    def margins(self, query: str, supports: Sequence[tuple[Features, Tensor]]) -> Tensor:
        """(1, h, w) of the query."""
        features = tuple(torch.stack(block, dim=1).float() for block in zip(*(f for f, _ in supports), strict=True))
        code = self.method.encode(features, torch.stack([mask for _, mask in supports])[None])
        return self.method.decode(tuple(f.float() for f in self.features(query)), code).logits.diff(dim=1)[:, 0]


def thresholds(data: Data, draw: Draw, shots: int) -> dict[str, float]:
    """By idea."""
    names, found = draw.supports[:shots], {IDEAS[0]: 0.0}
    whole = [data.looks(name, draw.class_id)[0] for name in names]
    for idea, most in OTHERS.items():
        places = [[(k + 1 + i) % shots for i in range(min(shots - 1, most))] for k in range(shots)]
        margins = [data.margins(names[k], [whole[i] for i in others]) for k, others in enumerate(places) if others]
        chosen = 0.0
        if shots >= leave_one_out.LEAST:
            chosen = float(leave_one_out.best_threshold(torch.stack(margins, 1), torch.stack([m for _, m in whole])[None]))
        found[idea] = chosen
    found[IDEAS[1]] = found["four others"] * (shots + 1) / max(shots - 2, 1)
    return found


def counted(data: Data, draw: Draw, margins: Tensor, threshold: float) -> Tensor:
    """Intersection and union of the filtered prediction."""
    half = (margins - threshold) / 2
    logits = guided_logits(torch.stack([-half, half], 1), data.image(draw.query), GUIDED)
    found, mask = logits[0, 1] > logits[0, 0], data.mask(draw.query, draw.class_id)
    known = mask != 255
    return torch.stack([(found & (mask == 1)).sum(), ((found | (mask == 1)) & known).sum()])


def main(root: str, episodes: int) -> None:
    """Print the table."""
    torch.set_grad_enabled(False)
    data = Data(root)
    pixels = {(idea, shots): torch.zeros(20, 2) for idea in IDEAS for shots in SHOTS}
    for number in range(episodes):
        draw = draw_seeded(data.names, CLASSES, max(SHOTS), SEED, number)[0]
        for shots in SHOTS:
            looks = [look for name in draw.supports[:shots] for look in data.looks(name, draw.class_id)]
            margins = data.margins(draw.query, looks)
            for idea, threshold in thresholds(data, draw, shots).items():
                pixels[idea, shots][draw.class_id] += counted(data, draw, margins, threshold)
    rows = [["threshold", *(f"{shots}-shot" for shots in SHOTS)], ["---", *["---:"] * len(SHOTS)]]
    for idea in IDEAS:
        ious = [100 * p[p[:, 1] > 0, 0] / p[p[:, 1] > 0, 1] for p in (pixels[idea, shots] for shots in SHOTS)]
        rows.append([idea, *(f"{float(iou.mean()):.1f}" for iou in ious)])
    print(aligned(rows))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
