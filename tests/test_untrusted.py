"""Files from strangers: whatever reads them carries out nothing that is in them."""

import ast
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from coco_tree import draw_coco
from conftest import ROOT, Command
from mshnet_pl import Segmenter
from mshnet_pl.config import compose, plain
from mshnet_pl.config.stored import stored_config
from mshnet_pl.data.loading.feature_cache import FeatureFile, FeatureShape
from mshnet_pl.data.loading.image_cache import ImageCache
from mshnet_pl.data.sources.coco_index import open_index
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.utils.checkpoint_file import read_checkpoint
from tiny import TINY, TINY_RUN


class Payload:
    """Makes the folder ``executed`` when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._place),)


@pytest.fixture
def executed(tmp_path: Path) -> Path:
    """The folder that a payload makes; shown to work once, and not there at the end of a test."""
    place = tmp_path / "executed"
    pickle.loads(pickle.dumps(Payload(place)))
    place.rmdir()
    return place


def saved(kind: str, content: object, path: Path) -> Path:
    """``content`` as PyTorch writes it now, as it did up to 1.5, or as a bare pickle."""
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    return path


@pytest.mark.one_in(4)
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("entry", [
    "mshnet-test ckpt=bad", "mshnet-report energy ckpt=bad", "mshnet-export ckpt=bad format=onnx out=net.onnx",
    "mshnet-predict ckpt=bad support=support query=query out=out", "mshnet-app ckpt=bad", "mshnet-train ckpt_path=bad",
    "mshnet-train backbone=resnet50 backbone.weights=bad.pth",
    "mshnet-train backbone=resnet50 backbone.weights=bad.safetensors",
    "mshnet-convert in=bad out=b.ckpt",
])  # fmt: skip
def test_a_pickle_that_names_code(
    command: Command, tmp_path: Path, checkpoint: Path, executed: Path, kind: str, entry: str
) -> None:
    content = {**read_checkpoint(checkpoint), "more": Payload(executed)}
    for name in ("bad", "bad.pth", "bad.safetensors"):
        saved(kind, content, tmp_path / name)
    source = Synthetic(size=40)
    for path in ("support/images/a.png", "support/masks/a.png", "query/b.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        source.image("val-00-0000").save(tmp_path / path)
    name, *arguments = entry.split()
    done = command(name, *arguments, *(TINY if name == "mshnet-train" else ()))
    assert done.code == 2 and "error: " in done.err and "bad" in done.err and "Traceback" not in done.err, done.err
    assert not executed.exists()


def test_a_run_does_not_go_on_from_one(command: Command, tmp_path: Path, executed: Path) -> None:
    assert command("mshnet-train", *TINY).code == 0
    next(tmp_path.rglob("result.json")).unlink()
    (last,) = tmp_path.rglob("last.ckpt")
    saved("zip", {**read_checkpoint(last), "callbacks": {"x": Payload(executed)}}, last)
    last.with_name("previous.ckpt").unlink(missing_ok=True)
    done = command("mshnet-train", *TINY)
    assert done.code == 2 and "is not a checkpoint of mshnet-train" in done.err and not executed.exists()


def hostile_configurations(executed: Path) -> dict[str, dict[str, Any]]:
    """Settings whose composition, instantiation or logging would carry something out, by what does."""
    call = {"_target_": "os.mkdir", "path": str(executed)}
    return {
        "a target": {"optimizer": call},
        "a target deep inside": {"callbacks": {"a": [{"b": call}]}},
        "a target out of a resolver": {"model": f"${{oc.create:{{_target_: os.mkdir, path: {executed.name}}}}}"},
        "a resolver in a target": {"model": {"_target_": "${oc.decode:os.mkdir}", "path": str(executed)}},
        "a resolver in a key": {"model": {"${oc.decode:_target_}": "os.mkdir"}},
        "a function of this package": {"model": {"_target_": "mshnet_pl.deploy.convert.convert", "settings": ["in=a"]}},
        "a module through this package": {"model": {"_target_": "mshnet_pl.runs.jobs.os.mkdir", "path": str(executed)}},
        "a private module": {"logger": {"_target_": "mshnet_pl.cli.prepare.main"}},
        "a function of Lightning's": {"logger": {"_target_": "pytorch_lightning.seed_everything"}},
        "an import": {"logger": {"_target_": "evil.Logger"}},
        "a logging factory": {
            "hydra": {"job_logging": {"handlers": {"x": {"()": "os.mkdir", "path": str(executed)}}}}
        },
        "a callback of Hydra's": {"hydra": {"callbacks": {"x": call}}},
        "a search path": {"hydra": {"searchpath": [f"file://{executed.parent}"]}},
        "a list of defaults": {"defaults": [{"override hydra/launcher": "joblib"}]},
    }  # fmt: skip


@pytest.mark.parametrize("how", hostile_configurations(Path("executed")))
def test_a_stored_configuration_that_carries_something_out(
    command: Command, tmp_path: Path, checkpoint: Path, executed: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(executed)!r})\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    state = read_checkpoint(checkpoint)
    state["hyper_parameters"]["config"] |= hostile_configurations(executed)[how]
    torch.save(state, tmp_path / "bad.ckpt")
    for name, *arguments in (("mshnet-test",), ("mshnet-report", "energy")):
        done = command(name, *arguments, "ckpt=bad.ckpt", "test.episodes=1")
        assert done.code == 2 and "bad.ckpt" in done.err and "Traceback" not in done.err, done.err
        assert "which no checkpoint of this project does" in done.err or "cannot be loaded" in done.err, done.err
    assert not executed.exists() and "evil" not in sys.modules


def test_what_the_project_stores_is_taken(tmp_path: Path) -> None:
    """Of every choice of data, method, backbone and training: all but files, folders, and what runs beside the network."""
    for number, choices in enumerate([
        ("data=pascal5i", "data.root=/data/voc", "data.splits_dir=${data.root}/splits", "logger=wandb", "val.episodes=5"),
        ("data=coco20i", "data.root=null", "recipe=improved", "callbacks=[ema,early_stopping]", "variant=wider"),
        ("data=folder", "data.source.manifest=/data/list.csv", "model=hsnet", "recipe=hsnet", "data.source.novel=[cat,dog]"),
        ("data=fss1000", "data.root=a", "data.splits_dir=b", "model=pfenet", "recipe=pfenet", "strategy=fsdp"),
        ("model=panet", "recipe=panet", "backbone=vgg16", "backbone.weights=/data/vgg.pth", "experiment=demo"),
        ("model=mshnet_lite", "backbone=timm", "scheduler=every_epochs", "similarity=[contrast,centred]", "optimizer=adamw"),
        ("model=contrast_baseline", "recipe=authors_code", "test.shots=[1,5]", "test.seeds=[0,1]", "eval.scales=[0.5,1]"),
    ]):  # fmt: skip
        whole = plain(compose(*choices), resolve=False)
        torch.save({"state_dict": {}, "hyper_parameters": {"config": whole}}, tmp_path / f"{number}.ckpt")
        config, files = stored_config(tmp_path / f"{number}.ckpt")
        left_out = {key for key, value in flat(whole).items() if flat(config).get(key) != value}
        allowed = ("runs", "threads", "gpus", "ckpt", "ckpt_path", "save_every", "logger", "trainer.", "test.", "data.")
        assert all(key.startswith(allowed) for key in left_out), left_out
        assert {"trainer._target_", "trainer.devices", "trainer.accelerator", "runs", "test.feature_mb"} <= left_out
        assert {"trainer.precision", "trainer.max_steps", "test.seeds", "data.image_size"} <= {*flat(config)} - left_out
        assert {key for key in left_out if flat(config).get(key) == "???"} == {*files}
        if number == 0:
            assert files == {"data.root": "/data/voc"} and config["data"]["splits_dir"] == "${data.root}/splits"


def flat(node: object, prefix: str = "") -> dict[str, object]:
    """Values by dotted name."""
    if not isinstance(node, dict) or not node:
        return {prefix.rstrip("."): node}
    return {key: value for name, one in node.items() for key, value in flat(one, f"{prefix}{name}.").items()}


@pytest.mark.parametrize("part", ["trn", "val"])
def test_split_lists(command: Command, tmp_path: Path, executed: Path, part: str) -> None:
    root = draw_coco(tmp_path / "coco")
    for other in ("trn", "val"):
        (tmp_path / "splits" / other).mkdir(parents=True)
        names: list[object] = [Payload(executed)] if other == part else []
        (tmp_path / "splits" / other / "fold0.pkl").write_bytes(pickle.dumps({c: names for c in range(80)}))
    done = command(
        "mshnet-train", *TINY_RUN, "model.width=4", "backbone.weights=random", "data=coco20i", f"data.root={root}",
        f"data.splits_dir={tmp_path / 'splits'}",
    )  # fmt: skip
    assert done.code == 2 and f"{part}/fold0.pkl is not a plain pickle" in done.err, done.err
    assert not executed.exists()


def test_support_files(tmp_path: Path, checkpoint: Path, executed: Path) -> None:
    segmenter = Segmenter.from_checkpoint(checkpoint)
    for kind in ("zip", "pickle"):
        with pytest.raises(DataError, match="is no file of save_support"):
            segmenter.load_support(saved(kind, Payload(executed), tmp_path / "support.safetensors"))
    assert not executed.exists()


def test_an_index_and_pictures_of_objects(command: Command, tmp_path: Path, executed: Path) -> None:
    root = draw_coco(tmp_path / "coco")
    annotations = root / "annotations" / "instances_val2014.json"
    ids = open_index(annotations, 80, tmp_path / "cache").image_ids()
    objects = np.array([Payload(executed)], object)
    (folder,) = (tmp_path / "cache").iterdir()
    np.save(folder / "image_id.npy", objects)
    assert open_index(annotations, 80, tmp_path / "cache").image_ids() == ids  # made anew
    assert command("mshnet-train", *TINY, "test.pictures=1").code == 0
    (pictures,) = tmp_path.rglob("pictures_*.npz")
    np.savez(pictures, **{"0/kind": objects, "0/number": objects})
    done = command("mshnet-report", tmp_path / "runs")
    assert done.code == 2 and "does not hold pictures" in done.err and not executed.exists(), done.err


def test_caches_of_other_bytes(tmp_path: Path, executed: Path) -> None:
    """Their files hold plain numbers and checksums: a pickle in one is an image that has to be decoded again."""
    image, features = torch.ones(16, 16, 3, dtype=torch.uint8), torch.ones(1, 1, 3, 4, 4)

    def images() -> ImageCache:
        return ImageCache(["a"], 16, 1, str(tmp_path), "these")

    def kept() -> FeatureFile:
        return FeatureFile(str(tmp_path), ["these"], ["a"], [FeatureShape((1, 4, 4, 3), torch.float32)])

    images().get("a", lambda: image)
    kept().put(0, (features,))
    assert kept().absent([0]) == []
    for path in tmp_path.glob("*.bin"):
        path.write_bytes(pickle.dumps(Payload(executed)).ljust(path.stat().st_size, b"\0"))
    assert torch.equal(images().get("a", refilled(image)), image)
    (found,) = kept().get([0], lambda _: (features,))
    assert torch.equal(found, features)
    assert not executed.exists()


def refilled(image: Tensor) -> Callable[[], Tensor]:
    return lambda: image.clone()


REFUSED = {"pickle.load", "pickle.loads", "yaml.load", "eval", "exec", "torch.jit.load", "joblib.load", "marshal.loads"}
SAFE = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False),
        "torch.hub.load_state_dict_from_url": ("weights_only", True)}  # fmt: skip


def test_no_other_call_reads_code() -> None:
    calls = [
        (f"{path}:{node.lineno}", ast.unparse(node.func), node.keywords)
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]
    for place, name, keywords in calls:
        assert name not in REFUSED and not name.endswith(".load_from_checkpoint"), place
        if name in SAFE:
            key, value = SAFE[name]
            assert any(k.arg == key and ast.unparse(k.value) == str(value) for k in keywords), place
    assert {name for _, name, _ in calls} >= SAFE.keys()


def test_only_parts_of_a_network_are_built(checkpoint: Path, tmp_path: Path) -> None:
    stored = torch.load(checkpoint, weights_only=True)
    model = stored["hyper_parameters"]["config"]["model"]
    for target in (
        "os.getcwd",
        "mshnet_pl.cli.train.main",
        "mshnet_pl.models.builder.Path",
        "mshnet_pl.models.mshnet.model.MSHNet",  # a file that may move: only public names are stored
        "mshnet_pl.models.builder",
        "mshnet_pl.backbones.BlockSpec",
        "mshnet_pl.data.sources.Synthetic",
        "MSHNet",
        "mshnet_pl.none.MSHNet",
    ):
        stored["hyper_parameters"]["config"]["model"] = {**model, "_target_": target}
        torch.save(stored, tmp_path / "hostile.ckpt")
        with pytest.raises(ConfigError, match=r"hostile\.ckpt holds no network that can be built: .*"):
            Segmenter.from_checkpoint(tmp_path / "hostile.ckpt")
    for change, message in (
        ({"backbone": "${model.backbone}"}, "recursion"),
        ({"backbone": "${oc.env:HOME}"}, "no plain reference"),
        ({"width": 12}, "size mismatch"),
        ({"width": 3}, "model.width=3"),
        ({"similarities": {}}, r"model\.similarities=\[\]"),
    ):
        stored["hyper_parameters"]["config"]["model"] = {**model, **change}
        torch.save(stored, tmp_path / "odd.ckpt")
        with pytest.raises(ConfigError, match=message):
            Segmenter.from_checkpoint(tmp_path / "odd.ckpt")
    with pytest.raises(ConfigError, match="no such file"):
        Segmenter.from_checkpoint(tmp_path / "none.ckpt")
