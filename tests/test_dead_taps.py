"""Training in bf16 on a CPU: gradients do not depend on what lies in freed memory."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mshnet_pl.backbones.base import AbstractBackbone
from mshnet_pl.backbones.efficientnet import EfficientNetLite0
from mshnet_pl.backbones.resnet import ResNet
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.models.fwb.model import FWB
from mshnet_pl.models.hsnet.model import HSNet
from mshnet_pl.models.ppnet.model import PPNet
from mshnet_pl.models.rpmm.model import RPMM
from mshnet_pl.training.dead_taps import single_precision_for_dead_taps
from mshnet_pl.training.losses import episode_loss

METHODS: dict[str, Callable[[AbstractBackbone], AbstractMethod]] = {
    "hsnet": HSNet,  # strided over few support positions
    "rpmm": lambda backbone: RPMM(backbone, width=8, components=[1, 2]),  # dilated by 18 on a map of 8
    "ppnet": PPNet,  # dilated by 24
    "fwb": FWB,
}


def gradients(method: AbstractMethod, precise: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 2, 3, 64, 64, generator=generator)
    mask = torch.zeros(2, 1, 64, 64)
    mask[..., 10:50, :40] = 1
    garbage = [torch.full((size,), torch.nan) for size in (1000, 10_000, 50_000, 300_000) for _ in range(8)]
    del garbage
    torch.manual_seed(2)
    with torch.autocast("cpu", torch.bfloat16, enabled=not precise), single_precision_for_dead_taps(images):
        loss, _ = episode_loss(method(images[:, 0], images[:, 1:], mask), mask[:, 0].to(torch.uint8))
    method.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", METHODS)
def test_gradients_in_bf16(name: str) -> None:
    torch.manual_seed(0)
    backbone = ResNet(50, "random", trainable=True, last_maps=True) if name == "fwb" else EfficientNetLite0("random")
    method = METHODS[name](backbone).train()
    exact, *found = (gradients(method, precise) for precise in (True, False, False))
    for of_one in found:
        assert of_one.keys() == exact.keys()
        for parameter, gradient in of_one.items():
            assert gradient.isfinite().all(), parameter
            assert gradient.norm() < 10 * exact[parameter].norm() + 0.1, parameter
