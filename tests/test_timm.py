"""timm's networks as backbones: maps against loops over timm's own parts, weights, sizes, and the commands."""

import copy
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor
from torch.nn.functional import interpolate

from conftest import Command
from mshnet_pl.backbones.base import BlockSpec
from mshnet_pl.backbones.resnet import ResNet
from mshnet_pl.backbones.timm_backbone import TimmBackbone
from mshnet_pl.episode import MEAN, STD
from tiny import TINY_RUN

IMAGES = torch.randn(2, 3, 97, 97, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def resnet50_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.manual_seed(0)
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), path)
    return path


def test_resnet50_is_the_other_resnet50(resnet50_file: Path) -> None:
    own, other = TimmBackbone("resnet50", str(resnet50_file)), ResNet(50, str(resnet50_file))
    assert own.blocks == other.blocks
    torch.testing.assert_close(own(IMAGES), other(IMAGES), atol=1e-3, rtol=1e-3)


def of_resnet(net: Any, x: Tensor) -> list[list[Tensor]]:  # noqa: ANN401 - timm is untyped
    x = net.maxpool(net.act1(net.bn1(net.conv1(x))))
    found: list[list[Tensor]] = [[], [], [], []]
    for maps, stage in zip(found, (net.layer1, net.layer2, net.layer3, net.layer4), strict=True):
        for block in stage:
            y = block.bn2(block.conv2(block.bn1(block.conv1(x)).relu()))
            maps.append(y + (x if block.downsample is None else block.downsample(x)))
            x = maps[-1].relu()
    return found[1:]


def of_convnext(net: Any, x: Tensor) -> list[list[Tensor]]:  # noqa: ANN401
    x = net.stem(x)
    found: list[list[Tensor]] = []
    for stage in net.stages:
        x = stage.downsample(x)
        found.append([x := block(x) for block in stage.blocks])
    return found[1:]


def of_efficientnet(net: Any, x: Tensor) -> list[list[Tensor]]:  # noqa: ANN401
    x = net.bn1(net.conv_stem(x))
    found: list[list[Tensor]] = []
    for stage in net.blocks:
        found.append([x := block(x) for block in stage])
    return [found[i] for i in (2, 4, 6)]


def of_swin(net: Any, x: Tensor) -> list[list[Tensor]]:  # noqa: ANN401
    x = net.patch_embed(interpolate(x, (128, 128), mode="bilinear"))  # 4 x 32
    found: list[list[Tensor]] = []
    for stage in net.layers:
        x = stage.downsample(x)
        found.append([x := block(x) for block in stage.blocks])
    return [[y.permute(0, 3, 1, 2) for y in maps] for maps in found[1:]]


def of_vit(net: Any, x: Tensor) -> list[list[Tensor]]:  # noqa: ANN401
    patch = net.patch_embed.patch_size[0]
    grid = -(-97 // patch)
    x = interpolate(x, (grid * patch, grid * patch), mode="bilinear")
    x = net.norm_pre(net._pos_embed(net.patch_embed(x)))
    tokens = [x := block(x) for block in net.blocks]
    maps = [y[:, net.num_prefix_tokens :].transpose(1, 2).unflatten(2, (grid, grid)) for y in tokens]
    return [maps[:4], maps[4:8], maps[8:]]


NETWORKS = {
    "resnet18": (of_resnet, [(2, 128, 8), (2, 256, 16), (2, 512, 32)]),
    "convnext_atto": (of_convnext, [(2, 80, 8), (6, 160, 16), (2, 320, 32)]),
    "efficientnet_b0": (of_efficientnet, [(2, 40, 8), (3, 112, 16), (1, 320, 32)]),
    "swin_tiny_patch4_window7_224": (of_swin, [(2, 192, 8), (6, 384, 16), (2, 768, 32)]),
    "vit_tiny_patch16_224": (of_vit, [(4, 192, 16)] * 3),
    "deit_tiny_distilled_patch16_224": (of_vit, [(4, 192, 16)] * 3),
    "vit_small_patch14_dinov2": (of_vit, [(4, 384, 14)] * 3),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_are_those_of_a_loop_over_the_blocks(name: str) -> None:
    loop, blocks = NETWORKS[name]
    torch.manual_seed(0)
    backbone = TimmBackbone(name, "random")
    assert backbone.blocks == tuple(BlockSpec(*block) for block in blocks)
    maps = backbone(IMAGES)
    assert not any(f.requires_grad for f in maps) and not any(p.requires_grad for p in backbone.parameters())
    assert not any(module.training for module in backbone.train().modules())
    own = timm.data.resolve_model_data_config(backbone.net)
    mean, std = torch.tensor(own["mean"]).view(3, 1, 1), torch.tensor(own["std"]).view(3, 1, 1)
    given = (IMAGES * STD + MEAN - mean) / std
    with torch.no_grad():
        expected = loop(backbone.net, given)
    for block, layers in zip(maps, expected, strict=True):
        torch.testing.assert_close([*block.unbind(1)], layers, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "grids"),
    [
        ("regnety_002", (13, 7, 4)),
        ("mobilenetv3_small_100", (13, 7, 4)),
        ("resnext50_32x4d", (13, 7, 4)),
        ("vit_small_patch16_dinov3", (7, 7, 7)),  # rotary codes, register tokens
        ("mixer_s16_224", (14, 14, 14)),  # of one size only
    ],
)
def test_the_last_maps_are_timms_own(name: str, grids: tuple[int, ...]) -> None:
    """timm's ``forward_intermediates`` gives one map a stage or layer, by other means than hooks."""
    torch.manual_seed(0)
    backbone = TimmBackbone(name, "random")
    maps = backbone(IMAGES)
    assert [tuple(f.shape) for f in maps] == [
        (2, spec.layers, spec.channels, grid, grid) for spec, grid in zip(backbone.blocks, grids, strict=True)
    ]
    side = grids[2] * 16 if grids[0] == grids[2] else 97
    given = interpolate(IMAGES * backbone.scale + backbone.shift, (side, side), mode="bilinear")
    with torch.no_grad():
        last = backbone.net.forward_intermediates(given, output_fmt="NCHW", intermediates_only=True)
    ends = (3, 7, 11) if len(last) == 12 else (1, 4, 7) if len(last) == 8 else (-3, -2, -1)
    for block, end in zip(maps, ends, strict=True):
        torch.testing.assert_close(*(y.relu() for y in (block[:, -1], last[end])), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_copies_and_threads_do_not_mix_their_maps(name: str) -> None:
    backbone = TimmBackbone(name, "random")
    twin, images = copy.deepcopy(backbone), [IMAGES * (1 + i) for i in range(4)]
    expected, found = [backbone(x) for x in images], {}

    def work(i: int) -> None:
        found[i] = [(backbone, twin)[i % 2](images[i]) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        for maps in found[i]:
            torch.testing.assert_close(maps, expected[i])


def test_files(tmp_path: Path, resnet50_file: Path) -> None:
    state = timm.create_model("deit_tiny_distilled_patch16_224").state_dict()  # two classifiers
    torch.save(state, tmp_path / "deit.pth")
    net = TimmBackbone("deit_tiny_distilled_patch16_224", str(tmp_path / "deit.pth")).net
    torch.testing.assert_close(net.blocks[5].mlp.fc1.weight, state["blocks.5.mlp.fc1.weight"])
    with pytest.raises(ValueError, match=r"resnet50\.pth does not fit ResNet \(missing: .*of another shape"):
        TimmBackbone("resnet50d", str(resnet50_file))
    with pytest.raises(FileNotFoundError, match=r"weights=.*none\.pth: no such file"):
        TimmBackbone("resnet18", str(tmp_path / "none.pth"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rsenet18", "name=rsenet18: .* did you mean resnet18"),
        ("resnet18.zzz", r"name=resnet18.zzz: Invalid pretrained tag .*resnet18.a1_in1k"),
        ("levit_128s", r"name=levit_128s gives maps of strides \[16, 32, 64\]"),
        ("hrnet_w18_small", "name=hrnet_w18_small has no single map of stride 8"),
    ],
)
def test_refused_names(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TimmBackbone(name, "random")


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "mshnet-train", "backbone=timm", "backbone.name=resnet18", "trainer.max_steps=1"],
        cwd=tmp_path, env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "backbone.weights=hub: timm's weights of resnet18 could not be downloaded" in done.stderr


TINY = (*TINY_RUN, "model.width=4", "data.image_size=64", "backbone=timm", "backbone.weights=random")


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_train_test_and_report(command: Command, tmp_path: Path, name: str) -> None:
    done = command("mshnet-train", *TINY, f"backbone.name={name}")
    assert done.code == 0, done.err
    (path,) = (tmp_path / "runs").rglob("result.json")
    result = json.loads(path.read_text())
    assert result["config"]["backbone"]["name"] == name and f"mshnet_{name}_cosine" in str(path.parent)
    checkpoint = path.parent / "checkpoints" / "last.ckpt"
    state = torch.load(checkpoint, weights_only=True)
    state["hyper_parameters"]["config"]["backbone"]["weights"] = "hub"  # which is not there: the checkpoint has them all
    torch.save(state, checkpoint)
    tested = command("mshnet-test", f"ckpt={checkpoint}", "runs=again")
    assert tested.code == 0, tested.err
    (again,) = (tmp_path / "again").rglob("result.json")
    assert json.loads(again.read_text())["tests"][0]["intersection"] == result["tests"][0]["intersection"]
    report = command("mshnet-report", tmp_path / "runs")
    assert f"| {name} " in report.out
