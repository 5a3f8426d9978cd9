"""Feature maps against torchvision's own forward pass, and loading of weights."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from conftest import MINI, WEIGHTS
from mshnet_pl.backbones.base import AbstractBackbone
from mshnet_pl.backbones.efficientnet import EfficientNetLite0
from mshnet_pl.backbones.resnet import ResNet
from mshnet_pl.backbones.vgg import VGG16
from mshnet_pl.data.io.transforms import to_input
from mshnet_pl.data.sources.pascal5i import Pascal5i
from mshnet_pl.options import Subset

IMAGES = torch.randn(2, 3, 97, 97, generator=torch.Generator().manual_seed(0))


def check_specification(backbone: AbstractBackbone, grids: tuple[int, ...]) -> tuple[Tensor, ...]:
    features = backbone(IMAGES)
    assert [tuple(f.shape) for f in features] == [
        (2, block.layers, block.channels, grid, grid) for block, grid in zip(backbone.blocks, grids, strict=True)
    ]
    assert not any(f.requires_grad for f in features) and not any(p.requires_grad for p in backbone.parameters())
    parent = nn.Sequential(backbone).train()
    assert not any(module.training for module in backbone.modules()) and parent.training
    torch.testing.assert_close(backbone(IMAGES), features)
    return features


@pytest.mark.parametrize("build", [ResNet, VGG16, EfficientNetLite0])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_an_image_is_the_same_bits_alone_and_beside_others(build: type[AbstractBackbone], precision: torch.dtype) -> None:
    backbone = build(weights="random")  # type: ignore[call-arg]  # of these three
    for side in (64, 97):
        images = torch.randn(6, 3, side, side, generator=torch.Generator().manual_seed(side))
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            together = backbone(images)
            for n in range(len(images)):
                for alone, block in zip(backbone(images[n : n + 1]), together, strict=True):
                    torch.testing.assert_close(block[n : n + 1], alone, atol=0, rtol=0)


@pytest.mark.parametrize(("depth", "layers"), [(50, (4, 6, 3)), (101, (4, 23, 3))])
@pytest.mark.parametrize("stride_in_1x1", [False, True])
def test_resnet(depth: int, layers: tuple[int, ...], stride_in_1x1: bool) -> None:
    backbone = ResNet(depth, "random", stride_in_1x1)
    assert [(b.layers, b.channels, b.stride) for b in backbone.blocks] == [
        (n, c, s) for n, c, s in zip(layers, (512, 1024, 2048), (8, 16, 32), strict=True)
    ]
    check_specification(backbone, (13, 7, 4))
    model = getattr(torchvision.models, f"resnet{depth}")(weights=None)
    model.fc = nn.Identity()
    model.load_state_dict(backbone.net.state_dict())
    before_relu: list[Tensor] = []
    for stage in (model.layer2, model.layer3, model.layer4):
        if stride_in_1x1:
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
        for bottleneck in stage:  # the last ReLU of a bottleneck is its third call
            bottleneck.relu = nn.ReLU()
            calls: list[Tensor] = []
            bottleneck.relu.register_forward_pre_hook(lambda _, x, calls=calls: calls.append(x[0].detach().clone()))
            bottleneck.register_forward_hook(lambda *_, calls=calls: before_relu.append(calls[2]))
    with torch.no_grad():
        model.double().eval()(IMAGES.double())
    own = [layer for block in backbone.double()(IMAGES.double()) for layer in block.unbind(1)]
    torch.testing.assert_close(own, before_relu, atol=1e-8, rtol=1e-8)


def test_vgg() -> None:
    backbone = VGG16("random")
    assert [(b.layers, b.channels) for b in backbone.blocks] == [(3, 512), (3, 512), (1, 512)]
    features = check_specification(backbone, (12, 6, 3))
    model = torchvision.models.vgg16(weights=None).features.eval()
    model.load_state_dict(backbone.layers.state_dict())
    own = [layer for block in features for layer in block.unbind(1)]
    with torch.no_grad():
        expected = [model[: i + 1](IMAGES) for i in (17, 19, 21, 24, 26, 28, 30)]
    torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-4)


def test_efficientnet_lite0() -> None:
    backbone = EfficientNetLite0()
    check_specification(backbone, (13, 7, 4))
    assert [(b.layers, b.channels) for b in backbone.blocks] == [(2, 40), (3, 112), (4, 192)]
    deeper = EfficientNetLite0(last_stage=True)
    features = check_specification(deeper, (13, 7, 4, 4))
    assert (deeper.blocks[3].layers, deeper.blocks[3].channels) == (1, 320)
    torch.testing.assert_close(features[:3], backbone(IMAGES), rtol=0, atol=0)


def test_depth_is_checked() -> None:
    with pytest.raises(ValueError, match=r"depth=52"):
        ResNet(52, "random")


def test_weight_files(tmp_path: Path) -> None:
    state = {name: value.half() for name, value in torchvision.models.resnet50(weights=None).state_dict().items()}
    headless = {name: value for name, value in state.items() if not name.startswith("fc.") and "num_batches" not in name}
    torch.save(state, tmp_path / "whole.pth")
    safetensors.torch.save_file(headless, tmp_path / "headless.safetensors")
    for name in ("whole.pth", "headless.safetensors"):
        net = ResNet(50, str(tmp_path / name)).net
        assert net.conv1.weight.dtype == torch.float32
        for key, value in headless.items():
            torch.testing.assert_close(net.state_dict()[key], value.float())

    torch.save({**headless, "layer5.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(ValueError, match=r"more\.pth does not fit ResNet \(unexpected: layer5\.weight\)"):
        ResNet(50, str(tmp_path / "more.pth"))
    del headless["layer3.5.conv3.weight"]
    torch.save(headless, tmp_path / "less.pth")
    with pytest.raises(ValueError, match=r"missing: layer3\.5\.conv3\.weight"):
        ResNet(50, str(tmp_path / "less.pth"))
    with pytest.raises(ValueError, match=r"whole\.pth does not fit ResNet \(missing: layer3\.6"):
        ResNet(101, str(tmp_path / "whole.pth"))
    with pytest.raises(FileNotFoundError, match=r"weights=.*none\.pth: no such file"):
        ResNet(50, str(tmp_path / "none.pth"))
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ValueError, match="not a readable state dict"):
        ResNet(50, str(tmp_path / "text.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="tensors by name"):
        ResNet(50, str(tmp_path / "list.pth"))


@pytest.mark.slow
def test_the_variant_of_the_real_weights_matters() -> None:
    """Real ImageNet weights separate classes only where the stride sits as they were trained."""
    if not (WEIGHTS.is_file() and MINI.is_dir()):
        pytest.skip(f"no {WEIGHTS} or no {MINI}")
    source = Pascal5i(str(MINI), str(MINI / "splits"))
    source.check()
    pairs = [pair for pair in source.pairs(Subset.VAL) if pair[1] in (0, 6, 7, 13)]
    pairs = [pair for c in (0, 6, 7, 13) for pair in [p for p in pairs if p[1] == c][:12]]
    images = torch.stack([to_input(source.image(name), 129) for name, _ in pairs])
    labels = torch.tensor([c for _, c in pairs])

    def nearest_neighbour_accuracy(stride_in_1x1: bool) -> float:
        last = ResNet(50, str(WEIGHTS), stride_in_1x1)(images)[-1][:, -1].relu().mean((2, 3))
        unit = nn.functional.normalize(last, dim=1)
        similarity = (unit @ unit.T).fill_diagonal_(-1)
        return (labels[similarity.argmax(1)] == labels).double().mean().item()

    right, wrong = nearest_neighbour_accuracy(True), nearest_neighbour_accuracy(False)
    assert right > 0.8 and right > wrong
