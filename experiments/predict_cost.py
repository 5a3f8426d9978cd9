"""Times segmenting images one after another: supports fitted once, against fitted anew for every image.

Hooks count the images that go through the backbone and the time spent in it: with the supports fitted, an image should cost
one pass of the backbone and the head. The head's weights are random and the images drawn, which changes no cost.

    python experiments/predict_cost.py [--weights random] [--size 473] [--images 4] [--device cpu]
"""

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mshnet_pl import Segmenter
from mshnet_pl.backbones.resnet import ResNet
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.models.mshnet.model import MSHNet
from mshnet_pl.options import Subset
from mshnet_pl.similarity.cosine import CosineSimilarity
from mshnet_pl.similarity.prototype import PrototypeSimilarity


class Cost(NamedTuple):
    """What one call takes."""

    seconds: float
    backbone_seconds: float
    backbone_images: int


class Meter:
    """Measures calls, and what of them a backbone takes."""

    def __init__(self, backbone: nn.Module, device: str) -> None:
        self._wait = torch.cuda.synchronize if device != "cpu" else lambda: None
        self._seconds, self._images = 0.0, 0
        backbone.register_forward_pre_hook(self._enter)
        backbone.register_forward_hook(self._leave)

    def _enter(self, backbone: nn.Module, inputs: tuple[Tensor]) -> None:
        self._wait()
        self._images += len(inputs[0])
        self._seconds -= time.perf_counter()

    def _leave(self, backbone: nn.Module, inputs: tuple[Tensor], output: object) -> None:
        self._wait()
        self._seconds += time.perf_counter()

    def __call__(self, call: Callable[[], object]) -> Cost:
        """Run ``call`` once."""
        self._seconds, self._images = 0.0, 0
        started = time.perf_counter()
        call()
        self._wait()
        return Cost(time.perf_counter() - started, self._seconds, self._images)


def median(costs: list[Cost]) -> Cost:
    """Of each part, over all calls but the first, which warms up."""
    seconds, in_backbone, images = np.median(costs[1:], axis=0)
    return Cost(float(seconds), float(in_backbone), int(images))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="random", help="random, imagenet, or a state dict of ResNet-50")
    parser.add_argument("--size", type=int, default=473, help="side of the square that images are resized to")
    parser.add_argument("--images", type=int, default=4, help="how many are segmented for a number")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.manual_seed(0)
    method = MSHNet(ResNet(50, given.weights), {"cosine": CosineSimilarity, "prototype": PrototypeSimilarity})
    segmenter, meter = Segmenter(method, given.size, given.device), Meter(method.backbone, given.device)
    source = Synthetic(size=given.size)
    names = [name for name, class_id in source.pairs(Subset.VAL) if class_id == 0]
    images, masks = [source.image(name) for name in names], [source.mask(name, [0]) for name in names]
    queries = images[5 : 6 + given.images]
    print(f"{given.size} x {given.size}, {given.device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("\n| shots | supports fitted | seconds an image | in the backbone | in the rest | images through the backbone |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for shots in (1, 5):
        support = images[:shots], masks[:shots]
        segmenter.fit(*support)
        once = median([meter(lambda: segmenter.predict(query)) for query in queries])  # noqa: B023 - called at once
        each = median([meter(lambda: segmenter.fit(*support).predict(query)) for query in queries])  # noqa: B023
        for when, cost in (("once", once), (f"for each image ({each.seconds / once.seconds:.2f} x)", each)):
            seconds = [cost.seconds, cost.backbone_seconds, cost.seconds - cost.backbone_seconds]
            print("|", " | ".join([f"{shots}", when, *(f"{s:.2f}" for s in seconds), f"{cost.backbone_images}"]), "|")


if __name__ == "__main__":
    main()
