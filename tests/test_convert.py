"""The authors' checkpoints through ``mshnet-convert``."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from conftest import SHARED, Command
from mshnet_pl.backbones.resnet import ResNet
from mshnet_pl.deploy.authors_names import authors_name, authors_shape
from mshnet_pl.models.builder import read_method
from mshnet_pl.models.mshnet.model import MSHNet
from mshnet_pl.similarity.cosine import CosineSimilarity
from mshnet_pl.similarity.prototype import PrototypeSimilarity
from mshnet_pl.utils.checkpoint_file import read_checkpoint
from test_golden import GOLDEN, drawing

SIMILARITIES = {"cosine": CosineSimilarity, "prototype": PrototypeSimilarity}


def authors_file(path: Path, names: tuple[str, ...] = ("cosine", "prototype"), depth: int = 50) -> dict[str, Tensor]:
    """A narrow network's entries under the authors' names, as ``DataParallel`` saves them; written to ``path``."""
    own = MSHNet(ResNet(depth, weights="random"), {name: SIMILARITIES[name] for name in names}, width=4).state_dict()
    state = {f"module.{authors_name(n)}": v.view(authors_shape(n, tuple(v.shape))) for n, v in own.items()}
    state |= {"module.backbone.fc.weight": torch.zeros(1000, 2048), "module.backbone.fc.bias": torch.zeros(1000)}
    torch.save({"epoch": 3, "state_dict": state}, path)
    return state


def test_a_drawn_checkpoint_gives_the_golden_logits(command: Command, tmp_path: Path) -> None:
    path = GOLDEN / "r50_both_1shot.npz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    golden = np.load(path)
    meta = json.loads(str(golden["meta"]))
    keys = json.loads((SHARED / "golden" / f"keys_{meta['similarity']}.json").read_text())
    shapes = {f"merge.{key}": tuple(shape) for key, shape in keys.items()}
    shapes |= {f"backbone.{key}": tuple(v.shape) for key, v in ResNet(50, weights="random").net.state_dict().items()}
    drawn = {key: drawing().weight(key.partition(".")[2], shape, meta["seed"]) for key, shape in shapes.items()}
    torch.save({key: torch.tensor(0) if x is None else torch.from_numpy(x) for key, x in drawn.items()}, tmp_path / "a.pth")
    done = command("mshnet-convert", "in=a.pth", "out=mshnet.ckpt", "fold=2")
    assert done.code == 0, done.err
    method, image_size, *_ = read_method(tmp_path / "mshnet.ckpt")
    query, support, mask, _ = (torch.from_numpy(x).double() for x in drawing().inputs(meta))
    with torch.no_grad():
        logits = method.double()(query, support, mask).logits
    assert np.abs(logits.numpy() - golden["logits"]).max() < 1e-6 and image_size == 473
    card = (tmp_path / "mshnet.ckpt.md").read_text()
    assert (
        "Never seen | diningtable" in card
        and "fold 2 (as told to mshnet-convert" in card
        and "without a licence" in card
        and "No recorded scores" in card
    )
    assert f"{meta['params']:,} trainable" in card and "a.pth" in card


@pytest.mark.one_in(2)
@pytest.mark.parametrize(("names", "depth"), [(("cosine",), 101), (("prototype",), 50), (("cosine", "prototype"), 50)])
def test_the_network_is_found_in_the_file(command: Command, tmp_path: Path, names: tuple[str, ...], depth: int) -> None:
    state = authors_file(tmp_path / "a.pth", names, depth)
    done = command("mshnet-convert", "in=a.pth", "out=b.ckpt", "data=coco20i", "shot=5")
    assert done.code == 0, done.err
    checkpoint = read_checkpoint(tmp_path / "b.ckpt")
    config, weights = checkpoint["hyper_parameters"]["config"], checkpoint["state_dict"]
    assert (config["backbone"]["depth"], set(config["similarity"]), config["model"]["width"]) == (depth, {*names}, 4)
    assert (config["shot"], config["fold"], config["data"]["root"]) == (5, "???", "???")
    for name, value in weights.items():
        key = f"module.{authors_name(name.removeprefix('method.'))}"
        assert torch.equal(value.flatten(), state[key].flatten()), name


def test_a_converted_checkpoint_is_tested(command: Command, tmp_path: Path, pascal_root: Path) -> None:
    authors_file(tmp_path / "a.pth", ("prototype",))
    assert command("mshnet-convert", "in=a.pth", "out=b.ckpt").code == 0
    settings = ["ckpt=b.ckpt", f"data.root={pascal_root}", f"data.splits_dir={pascal_root / 'splits'}", "test.episodes=2"]
    settings += ["data.image_size=64", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false"]
    refused = command("mshnet-test", *settings)
    assert refused.code == 2 and "fold is not set; give fold=..." in refused.err
    done = command("mshnet-test", *settings, "fold=1")
    assert done.code == 0, done.err
    (path,) = (tmp_path / "runs").rglob("result.json")
    result = json.loads(path.read_text())
    assert result["tests"][0]["episodes"] == 2 and result["training"]["shot"] is None
    report = command("mshnet-report", tmp_path / "runs", "format=csv")
    assert report.code == 0 and "? training" in report.out


@pytest.mark.parametrize("legacy", [False, True])
def test_who_takes_a_checkpoint_names_the_way_from_the_authors_file(command: Command, tmp_path: Path, legacy: bool) -> None:
    state = authors_file(tmp_path / "their net.pth", ("prototype",))
    if legacy:
        torch.save(state, tmp_path / "their net.pth", _use_new_zipfile_serialization=False)
    for path in ("q/a.png", "s/images/a.png", "s/masks/a.png"):
        (tmp_path / path).parent.mkdir(parents=True)
        Image.new("L", (32, 32), 255).save(tmp_path / path)
    for name, *arguments in (
        ("mshnet-test", "ckpt=their net.pth"), ("mshnet-predict", "ckpt=their net.pth", "support=s", "query=q", "out=o"),
        ("mshnet-export", "ckpt=their net.pth", "format=onnx", "out=net.onnx"), ("mshnet-train", "init_from=their net.pth"),
    ):  # fmt: skip
        done = command(name, *arguments)
        assert done.code == 2 and "Traceback" not in done.err
        assert "their net.pth is not a checkpoint of mshnet-train" in done.err, done.err
        assert "mshnet-convert in='their net.pth' out=mshnet.ckpt" in done.err


def test_a_file_that_does_not_fit_is_refused_by_its_first_key(command: Command, tmp_path: Path) -> None:
    state = authors_file(tmp_path / "a.pth")

    def refused(changed: dict[str, Any], *parts: str) -> None:
        torch.save(changed, tmp_path / "wrong.pth")
        done = command("mshnet-convert", "in=wrong.pth", "out=b.ckpt")
        assert done.code == 2 and not (tmp_path / "b.ckpt").exists()
        for part in ("in=wrong.pth", *parts):
            assert part in done.err

    lacking = {key: value for key, value in state.items() if not key.startswith("module.merge.decoder1.conv0")}
    refused(lacking, "merge.decoder1.conv0.0.weight is missing", "(8, 16, 1, 1)")
    renamed = {key.replace("decoderOut", "decoder_out"): value for key, value in state.items()}
    refused(renamed, "merge.decoder_out.0.weight is no part", "expected merge.decoderOut.0.weight")
    refused({**state, "module.merge.decoder4.2.bias": torch.zeros(3)}, "merge.decoder4.2.bias has shape (3,)", "(2,)")
    refused({**state, "module.merge.decoder4.2.bias": 1.5}, "merge.decoder4.2.bias is of type float")
    refused(ResNet(50, weights="random").net.state_dict(), "conv1.weight is no part")
    refused({"state_dict": {}}, "holds no tensors")


def test_nothing_in_a_file_is_executed(command: Command, tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "executed"),)

    for name, save in {"torch.pth": torch.save, "pickle.pth": lambda x, p: p.write_bytes(pickle.dumps(x))}.items():
        save({"merge.decoderOut.0.weight": torch.zeros(1), "x": Malicious()}, tmp_path / name)
        done = command("mshnet-convert", f"in={name}", "out=b.ckpt")
        assert done.code == 2 and f"in={name}" in done.err and "nothing in it was executed" in done.err
        assert not (tmp_path / "executed").exists() and not (tmp_path / "b.ckpt").exists()
    with (tmp_path / "pickle.pth").open("rb") as file:
        pickle.load(file)
    assert (tmp_path / "executed").is_dir()  # it would have been


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["in=none.pth", "out=b.ckpt"], ["in=none.pth", "no such file"]),
        (["in=a.pth"], ["out is not set", "--help"]),
        (["in=a.pth", "out=b.ckpt", "flod=1"], ["flod=1", "fold"]),
        (["in=a.pth", "out=b.ckpt", "fold=4"], ["fold=4", "0 to 3"]),
        (["in=a.pth", "out=b.ckpt", "shot=none"], ["shot=none", "at least 1"]),
        (["in=a.pth", "out=b.ckpt", "data=cityscapes"], ["data=cityscapes", "coco20i"]),
        (["in=a.pth", "out=b.ckpt", "overwrite=yes"], ["overwrite=yes", "true or false"]),
        (["in=a.pth", "out=nowhere/b.ckpt"], ["out=nowhere/b.ckpt", "no folder"]),
        (["in=a.pth", "out=a.pth", "overwrite=true"], ["out=a.pth", "what is read"]),
        (["in=a.pth", "out=there.ckpt"], ["there.ckpt is there already", "overwrite=true"]),
    ],
)  # fmt: skip
def test_settings_that_cannot_work(command: Command, tmp_path: Path, arguments: list[str], parts: list[str]) -> None:
    (tmp_path / "a.pth").write_bytes(b"kept")
    (tmp_path / "there.ckpt").write_bytes(b"kept")
    done = command("mshnet-convert", *arguments)
    assert done.code == 2 and "Traceback" not in done.err
    for part in parts:
        assert part in done.err
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "there.ckpt").read_bytes() == b"kept"
