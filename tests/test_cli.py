"""The commands as users type them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from conftest import ROOT, Command
from mshnet_pl import config
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.results import load
from tiny import TINY_RUN

TINY = (*TINY_RUN, "model.width=4", "trainer.max_steps=3", "test.episodes=5", "test.pictures=4", "logger=csv")
STOPPING = ("callbacks=[early_stopping]", "val.episodes=2", "val.every_n_steps=1")
SCRIPTS = Path(sys.executable).parent


def results(folder: Path) -> list[Path]:
    return sorted(folder.rglob("result.json"))


def only(folder: Path) -> tuple[Path, dict[str, Any]]:
    (path,) = results(folder)
    return path, json.loads(path.read_text())


def test_train_test_and_report(command: Command, tmp_path: Path) -> None:
    done = command("mshnet-train", *TINY, "test.untrained=true", "test.shots=[1,2]")
    assert done.code == 0, done.err
    path, result = only(tmp_path / "runs")
    assert [(t["weights"], t["shot"]) for t in result["tests"]] == [(w, k) for w in ("untrained", "last") for k in (1, 2)]
    assert result["novel"] == list(Synthetic.classes[:5])
    assert result["training"]["steps"] == 3 and result["config"]["data"]["novel_pixels"] == "drop"
    assert result["removed_images"] > 0 and result["versions"]["torch"] == torch.__version__.partition("+")[0]
    last = result["tests"][2]
    with (path.parent / "episodes_last_1shot_seed0.csv").open() as file:
        rows = [{key: int(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert [row["number"] for row in rows] == list(range(5))
    classes = {result["novel"][row["class_id"]] for row in rows}
    assert last["class_iou"].keys() == classes
    for c in classes:
        mine = [row for row in rows if result["novel"][row["class_id"]] == c]
        intersection = sum(row["intersection"] for row in mine)
        union = sum(row["predicted"] + row["true"] - row["intersection"] for row in mine)
        assert (last["intersection"][c], last["union"][c]) == (intersection, union)
    assert last["miou"] == pytest.approx(np.mean([100 * last["intersection"][c] / last["union"][c] for c in classes]))
    assert (path.parent / "checkpoints" / "last.ckpt").is_file() and (path.parent / "log" / "metrics.csv").is_file()

    before = path.read_bytes()
    again = command("mshnet-train", *TINY, "test.untrained=true", "test.shots=[1,2]", "data.num_workers=1")
    assert again.code == 0 and "already done" in again.err and path.read_bytes() == before

    tested = command(
        "mshnet-test", f"ckpt={path.parent / 'checkpoints' / 'last.ckpt'}", "test.seeds=[0,3]", "test.untrained=false",
        "test.shots=null", "runs=elsewhere",
    )  # fmt: skip
    assert tested.code == 0, tested.err
    _, other = only(tmp_path / "elsewhere")
    assert [(t["weights"], t["shot"], t["seed"]) for t in other["tests"]] == [("last", 1, 0), ("last", 1, 3)]
    for key in ("miou", "fb_iou", "intersection", "union", "episodes_sha256"):
        assert other["tests"][0][key] == last[key]
    assert other["tests"][1]["episodes_sha256"] != last["episodes_sha256"]
    (past,) = other["training"]["trainings"]
    assert (past["data"], past["fold"], other["training"]["shot"]) == ("Synthetic", 0, result["config"]["shot"])
    assert past["classes"] == list(Synthetic.classes[5:]) and other["training"]["tested_classes_trained"] == []

    report = command("mshnet-report", tmp_path / "runs", f"pictures={tmp_path / 'grids'}")
    assert report.code == 0, report.err
    assert f"{last['miou']:.1f}" in report.out and "everything foreground" in report.out and "untrained" in report.out
    for shots in (1, 2):
        with Image.open(tmp_path / "grids" / f"episodes_{shots}shot.png") as grid:
            assert grid.width > 300 and len(grid.convert("RGB").getcolors(2**24) or []) > 100


def test_best_checkpoint_and_validation(command: Command, tmp_path: Path) -> None:
    done = command(
        "mshnet-train", *TINY, "val.episodes=4", "val.every_n_steps=1", "val.classes=base_heldout",
        "test.checkpoint=best", "eval.resolution=original", "loss.ignore_unknown=true", "data.novel_pixels=ignore",
        "logger=none", "optimizer=adamw", "scheduler=constant", "trainer.accumulate_grad_batches=2",
    )  # fmt: skip
    assert done.code == 0, done.err
    path, result = only(tmp_path / "runs")
    assert result["tests"][0]["weights"] == "best" and result["training"]["val_classes"] == "base_heldout"
    assert result["tests"][0]["resolution"] == "original" and result["training"]["episodes"] == 3 * 2 * 2
    assert (path.parent / "checkpoints" / "best.ckpt").is_file()
    callback = next(
        state
        for state in torch.load(path.parent / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"].values()
        if state.get("monitor") == "val/miou"
    )
    validated = result["training"]["val_miou"]
    assert validated["best"] == pytest.approx(float(callback["best_model_score"]), abs=1e-3)
    assert 0 <= validated["newest"] <= validated["best"]


def test_sources_that_are_not_installed_keep_their_results(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mshnet_pl.results._PACKAGES", ("torch", "no-package-of-this-machine"))
    assert command("mshnet-train", *TINY, "trainer.max_steps=1").code == 0
    _, result = only(tmp_path / "runs")
    assert result["versions"]["no-package-of-this-machine"] == "from sources"


def test_bf16_that_is_computed_with_other_instructions_is_said(command: Command) -> None:
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.is_file() else set()
    if "avx512f" not in flags:
        pytest.skip("/proc/cpuinfo tells of no processor with AVX-512")
    if not hasattr(torch.cpu, "get_capabilities"):
        pytest.skip(f"torch {torch.__version__} cannot tell what the processor computes")
    done = command("mshnet-train", *TINY, "trainer.accelerator=cpu", "trainer.precision=bf16-mixed")
    assert done.code == 0, done.err
    assert ("no instructions for bf16" in done.err) == flags.isdisjoint({"avx512_bf16", "amx_bf16"})


def test_several_ways(command: Command, tmp_path: Path) -> None:
    done = command("mshnet-train", *TINY, "way=2", "shot=2", "val.episodes=2", "val.every_n_steps=3")
    assert done.code == 0, done.err
    path, result = only(tmp_path / "runs")
    assert "fold0_2way_2shot" in str(path) and result["tests"][0]["episodes"] == 5
    rows = (path.parent / "episodes_last_2shot_seed0.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * 5 and rows[1].split(",")[0] == rows[2].split(",")[0]


def test_a_training_free_method_and_pascal_files(command: Command, tmp_path: Path, pascal_root: Path) -> None:
    tests = ("test.shots=[1]", "test.seeds=[0]", "test.protocol=published")
    common = ("experiment=pascal5i_mini", f"data.root={pascal_root}", "backbone=efficientnet_lite0", *TINY, *tests)
    for model in ("model=prototype_baseline", "model=mshnet"):
        arguments = [a for a in common if model == "model=mshnet" or not a.startswith("model.width")]
        done = command("mshnet-train", *arguments, model, "trainer.precision=32-true")
        assert done.code == 0, done.err
    found = [json.loads(path.read_text()) for path in results(tmp_path / "runs")]
    baseline, trained = sorted(found, key=lambda result: result["learnable_parameters"])
    assert (baseline["tests"][0]["weights"], trained["tests"][0]["weights"]) == ("training-free", "last")
    assert baseline["tests"][0]["episodes_sha256"] == trained["tests"][0]["episodes_sha256"]
    assert baseline["splits"] == "published" and baseline["tests"][0]["protocol"] == "published"


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["fold=7"], ["fold=7", "folds 0 to 3"]),
        (["shot=0"], ["shot=0", "at least 1"]),
        (["shot=0", "data.batch_size=0", "test.episodes=0"], ["shot=0", "data.batch_size=0", "test.episodes=0"]),
        (["way=9"], ["way=9", "classes"]),
        (["way=2", "test.protocol=published"], ["way=2", "seeded"]),
        (["lrr=1"], ["lrr: there is no such setting", "optimizer.lr"]),
        (["data.image_sise=64"], ["data.image_sise", "data.image_size"]),
        (["shot=many"], ["many", "shot"]),
        (["backbone=resnet52"], ["backbone/resnet52", "resnet50"]),
        (["data.novel_pixels=hide"], ["hide", "drop"]),
        (["data=pascal5i"], ["data.root is not set"]),
        (["data=pascal5i", "data.root=/nowhere", "test.checkpoint=last"], ["data.root=/nowhere", "JPEGImages"]),
        (["backbone=resnet50", "backbone.weights=/nowhere.pth"], ["error: backbone.weights=/nowhere.pth: no"]),
        (["backbone=resnet50", "backbone.weights=random", "backbone.depth=52"], ["error: backbone.depth=52: a ResNet"]),
        (["model.width=3"], ["error: model.width=3: give a positive even number"]),
        (["similarity=[]"], ["error: similarity=[]: MSHNet needs at least one"]),
        (["similarity=[euclid]"], ["similarity/euclid", "cosine"]),
        (["trainer.precision=8"], ["8", "trainer"]),
        (["trainer.devices=2", "+trainer.num_nodes=2"], ["trainer.num_nodes=2", "torchrun"]),
        (["strategy=fsdp", "trainer.accelerator=cpu"], ["fsdp", "trainer"]),
        (["gpus=some"], ["gpus=some", "all"]),
        (["threads=0"], ["threads=0", "at least 1"]),
        (["model.blocks=[5]"], ["model.blocks=[5]", "2, 3, 4"]),
        (["hydra/launcher=slrm"], ["hydra/launcher/slrm", "slurm"]),
        (["trainer.max_steps=-1"], ["trainer.max_steps"]),
        (["test.checkpoint=best"], ["test.checkpoint=best", "val.episodes"]),
        (["test.protocol=published", "test.seeds=[1]"], ["test.seeds=[1]", "published"]),
        (["shot=30"], ["shot=30", "images a class"]),
        (["test.shots=[40]"], ["shot=40", "images a class"]),
        (["trainer.precision=bf16-true"], ["trainer.precision=bf16-true", "bf16-mixed"]),
        (["trainer.precision=16-true"], ["trainer.precision=16-true", "bf16-mixed"]),
        (["test.controls=1"], ["test.controls: ", "among 1 episodes; give a larger test.controls"]),
        (["val.episodes=2", "val.classes=base_heldout", "val.heldout=15"], ["val.heldout=15: there are 15 base classes"]),
        (["data.batch_size=1"], ["data.batch_size=1 with data.image_size=32", "give a larger data.batch_size"]),
        ([*STOPPING, "callbacks.early_stopping.monitor=val/nope"], ["monitor=val/nope: give val/miou"]),
        ([*STOPPING, "callbacks.early_stopping.monitor=train/nope"], ["monitor=train/nope", "train/loss", "val/miou"]),
        (["ckpt_path=/nowhere.ckpt"], ["/nowhere.ckpt", "no such file"]),
        (["-m", "--cfg", "job"], ["error: -m and --cfg: give one of them"]),
        (["runs=" + "n" * 300], ["n" * 300 + "/", "give another"]),
    ],
)  # fmt: skip
def test_what_cannot_work_is_one_message(command: Command, tmp_path: Path, arguments: list[str], parts: list[str]) -> None:
    done = command("mshnet-train", *TINY, *arguments)
    assert done.code == 2
    assert "Traceback" not in done.err and done.err.count("error: ") == 1
    for part in parts:
        assert part in done.err
    assert not results(tmp_path) and not list(tmp_path.rglob("*.ckpt"))


def test_bad_files_are_one_message(command: Command, pascal_root: Path) -> None:
    image = pascal_root / "JPEGImages" / "trn_06_0.jpg"
    image.write_bytes(image.read_bytes()[:300])
    Image.fromarray(np.zeros((9, 11), np.uint8)).save(pascal_root / "SegmentationClassAug" / "val_02_1.png")
    arguments = (
        "experiment=pascal5i_mini",
        f"data.root={pascal_root}",
        "backbone=efficientnet_lite0",
        *TINY,
        "test.shots=[1]",
    )
    done = command("mshnet-train", *arguments)
    assert done.code == 2 and "Traceback" not in done.err
    assert "trn_06_0.jpg" in done.err and "val_02_1.png: 11 x 9 pixels" in done.err
    path = pascal_root / "splits" / "trn" / "fold3.txt"
    path.write_text("no_such_image__16\n" + path.read_text())
    done = command("mshnet-train", *arguments)
    assert done.code == 2 and "Traceback" not in done.err and "fold3.txt:1: no_such_image" in done.err


def test_checkpoints_that_are_none(command: Command, tmp_path: Path) -> None:
    assert "ckpt=training-free brings no data to be tested on" in command("mshnet-test").err
    assert "no such file" in command("mshnet-test", "ckpt=none.ckpt").err
    (tmp_path / "text.ckpt").write_text("hello")
    assert "is not a checkpoint" in command("mshnet-test", "ckpt=text.ckpt").err
    hostile = {"state_dict": {}, "hyper_parameters": {"config": {"model": {"_target_": "os.getcwd"}}}}
    torch.save(hostile, tmp_path / "hostile.ckpt")
    done = command("mshnet-test", "ckpt=hostile.ckpt")
    assert done.code == 2 and "os.getcwd" in done.err and "not loaded" in done.err
    assert "no result.json below" in command("mshnet-report", tmp_path).err


@pytest.mark.parametrize("change", ["missing", "shape"])
def test_a_checkpoint_of_another_network(command: Command, checkpoint: Path, tmp_path: Path, change: str) -> None:
    content = torch.load(checkpoint, weights_only=True)
    key = "method.decoder.head.0.weight"
    if change == "missing":
        del content["state_dict"][key]
    else:
        content["state_dict"][key] = torch.zeros(1)
    torch.save(content, tmp_path / "other.ckpt")
    done = command("mshnet-test", "ckpt=other.ckpt", "trainer.accelerator=cpu")
    assert done.code == 2 and "Traceback" not in done.err, done.err
    assert "ckpt=other.ckpt does not hold the weights" in done.err and key in done.err


def test_nothing_is_overwritten(command: Command, tmp_path: Path) -> None:
    assert command("mshnet-train", *TINY).code == 0
    path, result = only(tmp_path)
    path.write_text(json.dumps({**result, "config_hash": "0" * 64}))
    done = command("mshnet-train", *TINY)
    assert done.code == 2 and "another configuration" in done.err and load(path).config_hash == "0" * 64
    path.write_text("{")
    assert "is not a result file" in command("mshnet-train", *TINY).err
    path.unlink()
    done = command("mshnet-train", *TINY, "ckpt_path=null")
    assert done.code == 2 and "would overwrite" in done.err


@pytest.mark.slow
def test_a_killed_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    """The installed command, killed in the middle of an epoch, against an uninterrupted run."""
    arguments = [
        SCRIPTS / "mshnet-train", "data.image_size=48", "data.batch_size=2", "trainer.max_steps=60", "test.episodes=2",
        "model.width=8", "save_every_n_steps=1", "logger=none", "trainer.enable_progress_bar=false", "data.num_workers=1",
    ]  # fmt: skip
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    subprocess.run(arguments, cwd=tmp_path / "whole", check=True, capture_output=True)
    process = subprocess.Popen(arguments, cwd=tmp_path / "killed", start_new_session=True, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        if list((tmp_path / "killed").rglob("last.ckpt")):
            time.sleep(0.5)
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.02)
    assert process.returncode == -signal.SIGKILL and not results(tmp_path / "killed")
    (last,) = (tmp_path / "killed").rglob("last.ckpt")
    stopped_at = torch.load(last, weights_only=True)["global_step"]
    assert 0 < stopped_at < 60
    subprocess.run(arguments, cwd=tmp_path / "killed", check=True, capture_output=True)
    _, result = only(tmp_path / "killed")
    assert result["training"]["resumed"]
    states = [torch.load(next((tmp_path / n).rglob("last.ckpt")), weights_only=True) for n in ("whole", "killed")]
    assert states[0]["global_step"] == states[1]["global_step"] == 60
    for key, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][key]), key


def test_every_choice_composes() -> None:
    """Each YAML of each group gives a configuration that the schema accepts."""
    config.register()
    groups = {p.parent.name: [] for p in (ROOT / "conf").glob("*/*.yaml")}  # type: dict[str, list[str]]
    for path in sorted((ROOT / "conf").glob("*/*.yaml")):
        groups[path.parent.name].append(path.stem)
    assert {"data", "backbone", "similarity", "model", "optimizer", "scheduler", "recipe", "experiment"} <= groups.keys()
    changing = {"experiment", "ablation", "recipe"}  # which choose for other groups; all others are chosen together
    together = [groups.keys() - changing, *({group} for group in changing)]
    with hydra.initialize_config_module("mshnet_pl.conf", version_base="1.3"):
        for several in together:
            for number in range(max(len(groups[group]) for group in several)):
                taken = {group: groups[group][number % len(groups[group])] for group in several}
                chosen = [f"{g}=[{n}]" if g in ("similarity", "callbacks") else f"{g}={n}" for g, n in taken.items()]
                raw = hydra.compose("config", overrides=[*chosen, "data.root=/nowhere", "val.episodes=1"])
                assert config.typed(raw).data.image_size >= 32
                assert not OmegaConf.missing_keys(raw)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("optimizer", [path.stem for path in sorted((ROOT / "conf" / "optimizer").glob("*.yaml"))])
@pytest.mark.parametrize("recipe", [path.stem for path in sorted((ROOT / "conf" / "recipe").glob("*.yaml"))])
def test_every_recipe_with_every_optimizer(recipe: str, optimizer: str) -> None:
    raw = config.compose(f"recipe={recipe}", f"optimizer={optimizer}")
    made = instantiate(raw.optimizer)([torch.nn.Parameter(torch.zeros(1))])
    assert type(made).__name__.lower() == optimizer.replace("_", "and") and made.defaults["lr"] == raw.optimizer.lr
    assert made.defaults.get("momentum", 0.9) == 0.9


def test_the_installed_command_works_from_any_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [SCRIPTS / "mshnet-train", "--cfg", "job"], cwd=tmp_path, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert "mshnet_pl.models.MSHNet" in done.stdout and not list(tmp_path.rglob("*.yaml"))
    failed = subprocess.run([SCRIPTS / "mshnet-train", "fold=7"], cwd=tmp_path, capture_output=True, text=True)
    assert failed.returncode == 2 and "error: fold=7" in failed.stderr and "Traceback" not in failed.stderr
