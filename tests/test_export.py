"""Exported networks against the networks that they were made of."""

import importlib.util
import json
import os
import subprocess
import venv
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import Tensor

import forked
from conftest import ROOT, Command
from mshnet_pl.data.io.transforms import resize_mask, to_input
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.inference import pretrained
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.models.builder import read_method
from mshnet_pl.models.layers import resize
from mshnet_pl.similarity.contrast import ContrastSimilarity
from mshnet_pl.similarity.cosine import CosineSimilarity
from mshnet_pl.similarity.masks import ObjectMask
from mshnet_pl.utils.hashing import sha256
from tiny import TINY_RUN

NAMES = ("query", "support", "support_mask")
TINY = (*TINY_RUN, "model.width=4", "data.image_size=64", "backbone.weights=random")


def trained(command: Command, folder: Path, *arguments: str) -> Path:
    done = command("mshnet-train", *TINY, *arguments)
    assert done.code == 0, done.err
    (path,) = folder.rglob("last.ckpt")
    return path


def export(folder: Path, *arguments: object) -> str:
    """The command in a process of its own: the tests' checks of signatures do not take a symbolic size for an ``int``."""
    process = forked.started(forked.command("export"), folder, folder / "said", "mshnet-export", *arguments)
    process.join()
    said = (folder / "said").read_text()
    assert process.exitcode == 0, said
    return said


def episode(batch: int, shots: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Drawn inputs; the first mask is empty where there are several, the others are ellipses."""
    rng = torch.Generator().manual_seed(batch + shots)
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    radius = 0.2 + 0.7 * torch.rand(batch, shots, 1, 1, generator=rng)
    mask = (y**2 + 2 * x**2 < radius**2).float()
    if batch * shots > 1:
        mask[0, 0] = 0
    images = torch.randn(batch, shots + 1, 3, height, width, generator=rng)
    return images[:, 0], images[:, 1:], mask


def logits_of(method: AbstractMethod, *inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return resize(method(*inputs).logits, inputs[0].shape[2:])


def assert_same(session: onnxruntime.InferenceSession, method: AbstractMethod, *sizes: tuple[int, int, int, int]) -> None:
    for size in sizes:
        inputs = episode(*size)
        (found,) = session.run(None, {name: x.numpy() for name, x in zip(NAMES, inputs, strict=True)})
        expected = logits_of(method, *inputs).numpy()
        assert found.shape == (size[0], 2, *size[2:]) and found.dtype == np.float32
        assert expected.std() > 1e-3 and np.abs(found - expected).max() < 1e-4, size


def session_of(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def test_onnx(command: Command, tmp_path: Path) -> None:
    ckpt = trained(command, tmp_path, "backbone=vgg16", "similarity=[cosine]", "model.blocks=[3,4]")
    query, support, mask = drawn_episode(tmp_path)
    margin = logits_of(read_method(ckpt).method, query, support, mask).diff(dim=1)
    changed = torch.load(ckpt, weights_only=True)
    changed["state_dict"]["method.decoder.head.2.bias"][1] -= margin.median()  # so that there is foreground and background
    torch.save(changed, ckpt)
    path = tmp_path / "net.onnx"
    assert export(tmp_path, f"ckpt={ckpt}", "format=onnx", f"out={path}") == f"{path}, described in {path}.md\n"
    onnx.checker.check_model(onnx.load(path), full_check=True)
    method = read_method(ckpt).method
    session = session_of(path)
    assert [axis.shape for axis in session.get_inputs()] == [
        ["batch", 3, "height", "width"],
        ["batch", "shots", 3, "support_height", "support_width"],
        ["batch", "shots", "mask_height", "mask_width"],
    ]
    assert_same(session, method, (1, 1, 64, 64), (2, 3, 64, 64), (2, 1, 97, 97), (1, 5, 80, 113))

    described = (tmp_path / "net.onnx.md").read_text()
    assert (
        sha256(path) in described and sha256(ckpt) in described and "No recorded scores" in described
    )  # those were of other weights
    assert f"{method.learnable_parameters():,} trainable" in described and "logits (B, 2, H, W)" in described

    before = path.read_bytes()
    again = command("mshnet-export", f"ckpt={ckpt}", "format=onnx", f"out={path}")
    assert again.code == 2 and "overwrite=true" in again.err and path.read_bytes() == before

    found = segment_without_this_package(tmp_path)
    margin = logits_of(method, query, support, mask)[0].diff(dim=0)[0].numpy()
    sure = np.abs(margin) > 1e-4
    assert sure.mean() > 0.9 and 0.2 < (found > 0).mean() < 0.8
    assert np.array_equal(found[sure], (margin > 0)[sure] * np.uint8(255))


def drawn_episode(folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """One shot of 64 x 64 pixels, as files in ``folder`` and as the network's inputs."""
    source = Synthetic(size=64)
    query, support = (source.image(name) for name in ("val-00-0000", "val-00-0001"))
    mask = source.mask("val-00-0001", [0])
    query.save(folder / "query.png")
    support.save(folder / "support.png")
    Image.fromarray(mask * 255).save(folder / "support_mask.png")
    return to_input(query, 64)[None], to_input(support, 64)[None, None], resize_mask(mask, 64)[None, None].float()


def segment_without_this_package(folder: Path) -> np.ndarray:
    """What ``run_exported.py`` writes in an environment of NumPy, ONNX Runtime and Pillow."""
    venv.create(folder / "env", with_pip=False)
    (packages,) = (folder / "env").glob("lib/python*/site-packages")
    for name in ("numpy", "onnxruntime", "PIL"):
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None
        installed = Path(spec.origin).parent
        for path in (installed, *installed.parent.glob(f"{'pillow' if name == 'PIL' else name}.libs")):
            (packages / path.name).symlink_to(path)
    python = [folder / "env" / "bin" / "python", "-I"]
    for absent in ("mshnet_pl", "torch"):
        done = subprocess.run([*python, "-c", f"import {absent}"], capture_output=True, text=True)
        assert f"No module named '{absent}'" in done.stderr
    names = ["net.onnx", "query.png", "support.png", "support_mask.png", "out.png"]
    command = [*python, ROOT / "experiments" / "run_exported.py", *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={"HOME": os.environ.get("HOME", "/")})
    assert done.returncode == 0, done.stderr
    return np.array(Image.open(folder / "out.png"))


def assert_same_archive(path: Path, ckpt: Path, side: int, *sizes: tuple[int, int]) -> None:
    extra = {"image_size": ""}
    loaded = torch.export.load(path, extra_files=extra).module()
    method = read_method(ckpt).method
    for batch, shots in sizes:
        inputs = episode(batch, shots, side, side)
        with torch.no_grad():
            torch.testing.assert_close(loaded(*inputs), logits_of(method, *inputs), atol=1e-4, rtol=0)
    assert extra["image_size"] == str(side)
    with pytest.raises(RuntimeError, match=f"to be equal to {side}, but got 128"):
        loaded(*episode(1, 3, 128, 128))


@pytest.mark.slow
def test_torch_export(checkpoint: Path, tmp_path: Path) -> None:
    """A backbone whose padding follows from the image size: batch and shots are free."""
    export(tmp_path, f"ckpt={checkpoint}", "format=torch_export", f"out={tmp_path / 'net.pt2'}")
    assert_same_archive(tmp_path / "net.pt2", checkpoint, 64, (1, 1), (2, 1), (1, 4), (3, 2))


@pytest.mark.parametrize("kind", [pytest.param("onnx", marks=pytest.mark.slow), "torch_export"])
def test_the_default_network(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "network"
    export(tmp_path, f"format={kind}", f"out={out}", "image_size=64")
    card = " ".join((tmp_path / "network.md").read_text().split())
    assert "without guided=0.09, zooms=[1.2, 2.0], with which its scores were measured" in card
    assert out.stat().st_size < 20e6
    session = onnxruntime.InferenceSession(out) if kind == "onnx" else None
    program = torch.export.load(out).module() if session is None else None
    method = pretrained.load("training-free").trained.method
    for batch, shots in ((1, 1), (2, 3), (3, 1), (1, 5)):
        query, support, mask = episode(batch, shots, 64, 64)
        for shown in (mask, torch.zeros_like(mask), torch.ones_like(mask)):
            with torch.no_grad():
                expected = resize(method(query, support, shown).logits, (64, 64))
            if program is not None:
                torch.testing.assert_close(program(query, support, shown), expected)
            if session is not None:
                given = {name: x.numpy() for name, x in zip(NAMES, (query, support, shown), strict=True)}
                np.testing.assert_allclose(session.run(None, given)[0], expected, atol=1e-3)


def test_a_checkpoint_cannot_have_a_module_imported(checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["config"]["data"]["source"]["_target_"] = "hostile.Source"
    hostile = tmp_path / "hostile.ckpt"
    torch.save(content, hostile)
    (tmp_path / "hostile.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\nclass Source: classes = ('a',) * 20\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        told = pretrained.load(hostile).describe()
    assert told.novel_classes == "not recorded" and not (tmp_path / "executed").exists()


@pytest.mark.slow
def test_fixed_shots_and_size_and_recorded_scores(command: Command, tmp_path: Path) -> None:
    ckpt = trained(command, tmp_path, "backbone=vgg16", "similarity=[cosine,contrast,centred]", "fold=2", "eval.guided=0.1")
    export(tmp_path, f"ckpt={ckpt}", "format=torch_export", f"out={tmp_path / 'net.pt2'}", "shots=3", "image_size=96")
    assert_same_archive(tmp_path / "net.pt2", ckpt, 96, (1, 3), (3, 3))
    described = (tmp_path / "net.pt2.md").read_text()
    (result,) = (json.loads(path.read_text()) for path in tmp_path.rglob("result.json"))
    assert f"| 1 | 0 | seeded | resized | 2 | {result['tests'][0]['miou']:.1f} |" in described
    assert "not part of the network: eval.guided=0.1." in described
    assert (
        "support (B, 3, 3, 96, 96)" in described
        and "similarities cosine, contrast, centred, width 4, backbone VGG16 (weights: random)" in described
    )
    never, seen = (described.partition(f"| {row} |")[2].partition("\n")[0] for row in ("Never seen", "Trained on"))
    for i, name in enumerate(Synthetic.classes):
        assert ((name in never), (name in seen)) == ((True, False) if 10 <= i < 15 else (False, True))


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("kind", [CosineSimilarity, ContrastSimilarity])
def test_cosines_of_all_pixels_are_those_of_the_selected_ones(kind: type[CosineSimilarity], centred: bool) -> None:
    class Compare(torch.nn.Module):
        def forward(self, query: Tensor, support: Tensor, weight: Tensor) -> Tensor:
            objects = ObjectMask(weight, (weight > 0).sum((2, 3)).to(weight.dtype))
            similarity = kind(5, centred)
            return similarity.compare(query, similarity.encode(support, objects))

    rng = torch.Generator().manual_seed(0)
    query = torch.randn(2, 3, 5, 4, 6, generator=rng, dtype=torch.float64)
    support = torch.randn(2, 3, 3, 5, 4, 6, generator=rng, dtype=torch.float64)
    weight = torch.rand(2, 3, 4, 6, generator=rng, dtype=torch.float64)
    weight *= weight > torch.tensor([[0.2, 0.5, 0.95], [0.8, 1.0, 0.0]])[..., None, None]  # one is empty
    exported = torch.export.export(Compare(), (query, support, weight)).module()
    torch.testing.assert_close(exported(query, support, weight), Compare()(query, support, weight), atol=1e-14, rtol=0)


@pytest.mark.slow
def test_the_papers_network_in_onnx(command: Command, tmp_path: Path) -> None:
    ckpt = trained(
        command, tmp_path, "backbone=resnet50", "model.width=128", "trainer.max_steps=1", "similarity=[cosine,prototype]"
    )
    export(tmp_path, f"ckpt={ckpt}", "format=onnx", f"out={tmp_path / 'net.onnx'}")
    assert_same(session_of(tmp_path / "net.onnx"), read_method(ckpt).method, (1, 1, 161, 161), (2, 2, 96, 128))


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["ckpt=unknown", "out=a.onnx", "format=onnx"], ["ckpt=unknown", "training-free", "save_pretrained"]),
        (["ckpt=none.ckpt", "out=a.onnx", "format=onnx"], ["ckpt=none.ckpt", "no such file"]),
        (["ckpt=text.ckpt", "out=a.onnx", "format=onnx"], ["ckpt=text.ckpt", "not a checkpoint"]),
        (["ckpt=text.ckpt", "out=a.onnx", "format=tflite"], ["format=tflite", "onnx", "torch_export"]),
        (["ckpt=text.ckpt", "out=a.onnx", "format=onnx", "shot=1"], ["shot=1", "did you mean shots"]),
        (["ckpt=text.ckpt", "out=a.onnx", "format=onnx", "image_size=8"], ["image_size=8", "from 32 to 4096"]),
        (["ckpt=text.ckpt", "out=text.ckpt", "format=onnx", "overwrite=true"], ["out=text.ckpt", "what is read"]),
        (["ckpt=text.ckpt", "out=card.onnx", "format=onnx"], ["card.onnx.md is there already", "overwrite=true"]),
    ],
)  # fmt: skip
def test_settings_that_cannot_work(command: Command, tmp_path: Path, arguments: list[str], parts: list[str]) -> None:
    for name in ("text.ckpt", "card.onnx.md"):
        (tmp_path / name).write_text("kept")
    done = command("mshnet-export", *arguments)
    assert done.code == 2 and "Traceback" not in done.err
    for part in parts:
        assert part in done.err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"text.ckpt": "kept", "card.onnx.md": "kept"}
