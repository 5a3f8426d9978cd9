"""Weights & Biases, read back from the files that it writes offline; failures that must not end a run."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import yaml
from PIL import Image
from wandb.proto import wandb_internal_pb2 as protocol

import tiny
from conftest import ROOT, Command
from mshnet_pl import config
from mshnet_pl.results import load
from mshnet_pl.training.callbacks import track_sweep
from mshnet_pl.training.wandb_logger import labels
from mshnet_pl.utils.targets import network_name

TINY = (
    *tiny.TINY, "data.image_size=48", "trainer.max_steps=3", "test.episodes=3", "trainer.log_every_n_steps=1",
    "logger=wandb",
)  # fmt: skip
GROUP = "Synthetic MSHNet cosine+prototype EfficientNetLite0"


def records(path: Path) -> Iterator[Any]:
    """The records of a ``.wandb`` file: protocol buffers in LevelDB's log format, after a header of 7 bytes."""
    data, place, parts = path.read_bytes(), 7, []
    while place + 7 <= len(data):
        left = 2**15 - place % 2**15
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield protocol.Record.FromString(b"".join(parts))
            parts = []


class Recorded:
    """What one offline run says."""

    def __init__(self, folder: Path) -> None:
        (path,) = folder.glob("*.wandb")
        self.files = folder / "files"
        self.run: Any = None
        self.config: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.artifacts: dict[str, Any] = {}
        for record in records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.run = record.run
                self.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "history":
                self.history.append(items(record.history.item))
            elif kind == "summary":
                self.summary |= items(record.summary.update)
            elif kind == "artifact":
                self.artifacts[record.artifact.type] = record.artifact

    def column(self, key: str) -> list[Any]:
        return [row[key] for row in self.history if key in row]


def items(found: Any) -> dict[str, Any]:  # noqa: ANN401 - protocol buffers
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in found}


def offline_runs(folder: Path) -> list[Path]:
    return sorted(folder.rglob("offline-run-*"))


def test_an_offline_run_holds_everything(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")  # the setting counts, and no account is needed
    done = command("mshnet-train", *TINY, "val.episodes=4", "val.every_n_steps=2", "test.checkpoint=best")
    assert done.code == 0 and "wandb failed" not in done.err, done.err
    (path,) = tmp_path.rglob("result.json")
    result = load(path)
    recorded = Recorded(*offline_runs(path.parent))
    run = recorded.run
    assert (run.project, run.run_group, run.job_type) == ("mshnet_pl", GROUP, "fold0-1shot")
    assert {*run.tags} == {"fold0", "1shot", "seed0", "full", "train"} and run.display_name == path.parent.name
    assert {key: recorded.config[key] for key in result.config} == result.config
    assert recorded.config["method"] == "MSHNet cosine+prototype"

    losses = {f"train/loss{name}" for name in ("", "_final", "_block4", "_block3", "_block2")}
    every_step = {*losses, "lr-SGD", "train/grad_norm", "train/episodes_per_second", "train/miou", "train/fb_iou"}
    for key in every_step:
        assert len(recorded.column(key)) >= 3 and np.isfinite(recorded.column(key)).all(), key
    for stage in ("val", "test"):
        for key in (f"{stage}/miou", f"{stage}/fb_iou"):
            assert len(recorded.column(key)) == 1, key
    test = result.tests[0]
    for name, iou in test.class_iou.items():
        assert recorded.column(f"test/iou/{name}") == [pytest.approx(iou, rel=1e-6)]
    for stage in ("train", "val"):
        assert {key.split("/")[2] for key in recorded.summary if key.startswith(f"{stage}/iou/")}
    assert recorded.summary["result/best_1shot_seed0/miou"] == test.miou
    assert recorded.summary["result/best_1shot_seed0/fb_iou"] == test.fb_iou

    for panel, size in (("panel/predictions", (48, 48)), ("panel/energy", None)):
        (names,) = recorded.column(f"{panel}/filenames")
        assert len(names) == 4
        for name in names:
            with Image.open(recorded.files / name) as picture:
                picture.load()
                assert (size is None or picture.size == size) and len(picture.convert("RGB").getcolors(2**20) or []) > 50
    (masks,) = recorded.column("panel/predictions/all_masks")
    for layers in masks:
        with Image.open(recorded.files / layers["truth"]["path"]) as mask:
            assert {*np.unique(mask)} <= {0, 1, 255} and 1 in np.unique(mask)
    (captions,) = recorded.column("panel/predictions/captions")
    assert all(f"episode {i}: " in caption and "IoU" in caption for i, caption in enumerate(captions))

    sent = {kind: next(iter(artifact.manifest.contents)) for kind, artifact in recorded.artifacts.items()}
    assert Path(sent["result"].local_path) == path
    assert Path(sent["checkpoint"].local_path) == path.parent / "checkpoints" / "best.ckpt"

    again = [replace(result, config={**result.config, "runs": str(tmp_path / "all"), "fold": fold}) for fold in (0, 1)]
    track_sweep(again)
    sweep = Recorded(*offline_runs(tmp_path / "all"))
    assert (sweep.run.run_group, sweep.run.job_type) == (GROUP, "sweep")
    (table,) = (sweep.files / "media").rglob("*.table.json")
    content = json.loads(table.read_text())
    rows = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
    assert [(row["fold"], row["shot"], row["variant"], row["miou"], row["fb_iou"]) for row in rows] == [
        (fold, 1, "full", test.miou, test.fb_iou) for fold in (0, 1)
    ]
    track_sweep([replace(result, config={**result.config, "runs": str(tmp_path / "none"), "logger": None})])
    assert not (tmp_path / "none").exists()


def test_pictures_after_training_without_validation(command: Command, tmp_path: Path) -> None:
    done = command("mshnet-train", *TINY, "logger.panel=2", "logger.checkpoint=false", "way=2")
    assert done.code == 0 and "wandb failed" not in done.err, done.err
    recorded = Recorded(*offline_runs(tmp_path))
    (captions,) = recorded.column("panel/energy/captions")
    assert [caption.partition(":")[0] for caption in captions] == [f"episode {n}" for n in (0, 0, 1, 1)]
    assert [*recorded.artifacts] == ["result"]


def test_no_connection_ends_no_run(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_X_GRAPHQL_RETRY_MAX", "1")  # questions are not asked again for seconds
    nowhere = ("base_url=http://127.0.0.1:9", f"api_key={'a' * 40}")
    settings = (*(f"+logger.settings.{setting}" for setting in nowhere), "logger.settings.init_timeout=2")
    done = command("mshnet-train", *TINY, "logger.mode=online", *settings)
    assert done.code == 0 and "wandb failed" not in done.err
    assert done.err.count("wandb cannot start") == 1 and "logger.mode=offline" in done.err
    (path,) = tmp_path.rglob("result.json")
    recorded = Recorded(*offline_runs(path.parent))
    assert recorded.summary["result/last_1shot_seed0/miou"] == load(path).tests[0].miou


_KILL = """
import os, signal
from pathlib import Path
import pytorch_lightning as pl

class Kill(pl.Callback):
    def on_train_batch_end(self, trainer, *args):
        for path in Path("/proc").glob("[0-9]*/stat") if trainer.global_step == 1 else ():
            name, _, rest = path.read_text().rpartition(")")
            if "wandb-core" in name and int(rest.split()[1]) == os.getpid():
                os.kill(int(path.parent.name), signal.SIGKILL)
                print("wandb is dead")
"""


@pytest.mark.slow
def test_the_death_of_wandb_ends_no_run(tmp_path: Path) -> None:
    """The installed command, whose wandb service is killed in the middle of training."""
    (tmp_path / "killer.py").write_text(_KILL)
    environment = {key: value for key, value in os.environ.items() if key != "WANDB_SERVICE"}  # one of its own
    done = subprocess.run(
        [Path(sys.executable).parent / "mshnet-train", *TINY, "+callbacks.killer._target_=killer.Kill"],
        cwd=tmp_path, env={**environment, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "wandb is dead" in done.stdout
    assert done.stderr.count("wandb failed") == 1 and "the run continues" in done.stderr
    (path,) = tmp_path.rglob("result.json")
    assert load(path).training["steps"] == 3


def test_how_runs_are_filed() -> None:
    config: dict[str, Any] = {
        "data": {"source": {"_target_": "mshnet_pl.data.sources.pascal5i.Pascal5i"}},
        "model": {"_target_": "mshnet_pl.models.mshnet.model.MSHNet", "similarities": {"cosine": {}}},
        "backbone": {"_target_": "mshnet_pl.backbones.resnet.ResNet", "depth": 50},
        "fold": 2, "shot": 5, "seed": 1, "variant": "no_" + "x" * 70, "ckpt": "last.ckpt",
    }  # fmt: skip
    assert labels(config) == {
        "group": "Pascal5i MSHNet cosine ResNet-50",
        "job_type": "fold2-5shot",
        "tags": ["fold2", "5shot", "seed1", "no_" + "x" * 61, "test"],
    }
    config["model"]["_target_"], config["variant"] = "mshnet_pl.models.MSHNetLite", "full"
    assert labels(config)["group"] == f"Pascal5i {network_name(config)} ResNet-50"
    assert network_name(config) == "MSHNet-lite cosine"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["logger.mode=onlin"], ["logger.mode=onlin", "offline, online, disabled"]),
        (["logger=csv", "+logger.colour=red"], ["colour", "logger"]),
    ],
)
def test_bad_settings_are_one_message(command: Command, arguments: list[str], parts: list[str]) -> None:
    done = command("mshnet-train", *TINY, *arguments)
    assert done.code == 2 and "Traceback" not in done.err
    for part in parts:
        assert part in done.err


def test_the_sweep_of_ablations_composes() -> None:
    sweep = yaml.safe_load((ROOT / "experiments" / "wandb" / "sweep_ablation.yaml").read_text())
    values = {key: node["values"] for key, node in sweep["parameters"].items()}
    assert {*values["ablation"]} == {path.stem for path in (ROOT / "conf" / "ablation").glob("*.yaml")}
    assert values["fold"] == [0, 1, 2, 3] and sweep["metric"] == {"name": "test/miou", "goal": "maximize"}
    config.register()
    hashes, methods = set(), set()
    for ablation, fold in [*product(values["ablation"], [0]), *product(["full"], values["fold"][1:])]:
        words = {"${args_no_hyphens}": [f"ablation={ablation}", f"fold={fold}"]}
        command = [part for word in sweep["command"][1:] for part in words.get(word, [word])]
        overrides = [word.replace("${envvar:VOC2012}", "/nowhere") for word in command]
        with hydra.initialize_config_module("mshnet_pl.conf", version_base="1.3"):
            raw = hydra.compose("config", overrides=overrides)
        assert (config.typed(raw).fold, raw.logger.mode, raw.data.root) == (fold, "online", "/nowhere")
        hashes.add(config.config_hash(config.plain(raw)))
        methods.add(network_name(config.plain(raw)))
    assert len(hashes) == len(values["ablation"]) + 3
    assert len(methods) == len(values["ablation"]) and {"MSHNet cosine", "MSHNet prototype"} < methods


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of that package under the newest pydantic
def test_the_dashboard_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb_workspaces")
    monkeypatch.syspath_prepend(ROOT / "experiments" / "wandb")
    import dashboard

    view = dashboard.dashboard("somebody", "mshnet_pl")
    assert [section.name for section in view.sections] == ["Scores", "Training", "Pictures"]
    assert {str(panel.groupby) for panel in view.sections[0].panels} == {str(dashboard.panels.Config("method"))}
