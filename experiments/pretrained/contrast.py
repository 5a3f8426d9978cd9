"""Write the training-free contrast as a network for ``ckpt=``: ``python experiments/pretrained/contrast.py FOLDER``.

It is what the default network is compared with, see ``experiments/default_network.md``.
"""

import sys
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
    network="ContrastBaseline; backbone EfficientNetLite0 (weights: imagenet), frozen; 0 trainable parameters",
    data="ImageNet-1k, by the backbone, for classification; no masks",
    classes="none: nothing is trained on masks",
    novel_classes="every class",
    episodes="none; any number of shots can be given",
    remarks=[],
    terms=[],
)


def main(folder: Path) -> None:
    """Into ``folder``."""
    method = assemble(NETWORK, 473, {}, pretrained.installed_backbone())
    network = pretrained.Pretrained(folder.name, "", method, False, lambda: LEARNED_FROM)
    pretrained.save(folder, network, overwrite=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
