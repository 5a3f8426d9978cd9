"""Steps whose loss or gradient is not finite: named, kept, repeated, or left out without a trace."""

import csv
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import Command
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.protocol.sampling import Draw
from mshnet_pl.utils.checkpoint_file import read_checkpoint
from poisoned import BlankImages
from tiny import TINY_RUN

TINY = (
    *TINY_RUN, "data.source.size=32", "data.source.train_images=16", "save_every_n_steps=1", "threads=1", "logger=csv",
    "scheduler=constant", "trainer.log_every_n_steps=1",
)  # fmt: skip
STEP = 3
"""Counted from 1: the step whose second query is blank."""


@pytest.fixture(scope="module")
def drawn() -> list[Draw]:
    """The training episodes of the first steps."""
    datamodule = EpisodeDataModule(BlankImages(size=32, train_images=16), image_size=32)
    datamodule.setup()
    return [datamodule.training_draws(number)[0] for number in range(12)]


@pytest.fixture
def poisoned(tmp_path: Path, drawn: list[Draw]) -> list[str]:
    """Arguments for a method that cannot work on the blank query of ``STEP``."""
    blank = drawn[2 * STEP - 1].query
    assert [draw.query for draw in drawn].count(blank) == 1
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "log_contrast.yaml").write_text("_target_: poisoned.LogContrast\nbackbone: ${backbone}\n")
    source = ["data.source._target_=poisoned.BlankImages", f"+data.source.blank=[{blank}]"]
    return ["--config-dir", str(tmp_path), "model=log_contrast", *source, "test.feature_mb=0", *TINY]


def run(command: Command, *arguments: str) -> dict[str, Any]:
    done = command("mshnet-train", *arguments)
    assert done.code == 0, done.err
    (folder,) = (arg.removeprefix("runs=") for arg in arguments if arg.startswith("runs="))
    (path,) = Path(folder).rglob("result.json")
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def state(folder: str) -> dict[str, Any]:
    (path,) = Path(folder).rglob("last.ckpt")
    return read_checkpoint(path)


def test_the_run_ends_with_what_repeats_the_step(
    command: Command, tmp_path: Path, poisoned: list[str], drawn: list[Draw]
) -> None:
    done = command("mshnet-train", *poisoned, "trainer.max_steps=5", "runs=stop", "data.num_workers=1")
    assert done.code == 2 and "Traceback" not in done.err and done.err.count("error: ") == 1
    assert f"step {STEP}: the loss is not finite" in done.err and "of seed 0" in done.err
    for number in (2 * STEP - 2, 2 * STEP - 1):
        draw = drawn[number]
        name = BlankImages.classes[draw.class_id]
        assert f"episode {number}: query {draw.query}, {name} shown by {', '.join(draw.supports)}" in done.err
    (path,) = tmp_path.rglob("nonfinite.json")
    record = json.loads(path.read_text())
    assert record["batches"] == [[2 * STEP - 2, 2 * STEP - 1]] and record["what"] == "loss"
    before, kept = state("stop"), read_checkpoint(path.with_suffix(".ckpt"))
    assert before["global_step"] == STEP - 1
    for key, value in before["state_dict"].items():  # BatchNorm's statistics among them
        assert torch.equal(value, kept["state_dict"][key]), key
    last = re.search(r"loss\.nonfinite=skip ckpt_path=(\S+), which resumes", done.err)
    assert last
    result = run(command, *poisoned, "trainer.max_steps=5", "runs=on", "loss.nonfinite=skip", f"ckpt_path={last[1]}")
    assert result["training"]["skipped_steps"] == 1 and result["training"]["resumed"]


@pytest.mark.parametrize("accumulated", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_a_step_that_is_left_out_leaves_no_trace(command: Command, poisoned: list[str], accumulated: int) -> None:
    """Weights, statistics and momentum after it are those before it, and the next step goes on from there."""
    step = -(-STEP // accumulated)
    common = [*poisoned, "loss.nonfinite=skip", f"trainer.accumulate_grad_batches={accumulated}", "data.augment.flip=true"]
    for name, steps in (("before", step - 1), ("at", step), ("after", step + 1)):
        result = run(command, *common, f"runs={name}", f"trainer.max_steps={steps}")
        assert result["training"]["steps"] == steps
        assert result["training"]["skipped_steps"] == (0 if name == "before" else 1)
    before, at, after = map(state, ("before", "at", "after"))
    changed = []
    for key, value in before["state_dict"].items():
        assert torch.equal(value, at["state_dict"][key]), key
        assert after["state_dict"][key].isfinite().all()
        changed += [] if torch.equal(value, after["state_dict"][key]) else [key]
    assert {"method.layers.0.weight", "method.layers.1.running_mean", "method.head.bias"} <= {*changed}
    for place, memory in before["optimizer_states"][0]["state"].items():
        other = at["optimizer_states"][0]["state"][place]["momentum_buffer"]
        assert torch.equal(memory["momentum_buffer"], other)
    # cut off after the step and gone on: the same, with the count
    (result_file,) = Path("after").rglob("result.json")
    (last,) = Path("at").rglob("last.ckpt")
    gone_on = run(command, *common, "runs=on", f"trainer.max_steps={step + 1}", f"ckpt_path={last}")
    assert gone_on["training"]["skipped_steps"] == 1 == json.loads(result_file.read_text())["training"]["skipped_steps"]
    for key, value in state("on")["state_dict"].items():
        assert torch.equal(value, after["state_dict"][key]), key


def test_a_diverged_training_and_its_replay(command: Command, tmp_path: Path) -> None:
    """A learning rate that is far too large, and the one command that the message names."""
    diverging = (*TINY, "model.width=4", "logger=csv", "optimizer.lr=1e12", "trainer.gradient_clip_val=null")
    done = command("mshnet-train", *diverging, "trainer.max_steps=30")
    assert done.code == 2 and "not finite" in done.err and "Traceback" not in done.err, done.err
    (line,) = re.findall(r"^  (mshnet-train replay .*)$", done.err, re.MULTILINE)
    replayed = command(*shlex.split(line))
    assert replayed.code == 0, replayed.err
    record = json.loads(next(tmp_path.rglob("nonfinite.json")).read_text())
    assert f"loss {float(record['loss'])!r}" in replayed.out.replace("-nan", "nan")
    assert re.search(r"not finite: (?!none)\w|weights before the step: (?!finite)", replayed.out)
    done = command("mshnet-train", *diverging, "trainer.max_steps=60", "loss.nonfinite=skip", "runs=skip")
    assert done.code == 2 and "20 such steps in a row" in done.err


def test_a_replay_repeats_the_step_to_the_last_bit(command: Command, tmp_path: Path) -> None:
    """Dropout, augmentation and batch: the loss that training logged, of a step that went well."""
    common = (*TINY, "model.width=4", "logger=csv", "data.augment.jitter=0.3", "shot=2")
    losses = []
    for steps in (2, 3):
        assert command("mshnet-train", *common, f"trainer.max_steps={steps}", f"runs={steps}").code == 0
        with next((tmp_path / str(steps)).rglob("metrics.csv")).open() as file:
            losses.append([float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]])
    assert losses[1][:2] == losses[0] and len(losses[1]) == 3
    kept = state("2")
    record = {"nonfinite": {"step": 2, "batches": [[4, 5]]}}
    torch.save({key: kept[key] for key in ("state_dict", "hyper_parameters")} | record, tmp_path / "nonfinite.ckpt")
    done = command("mshnet-train", "replay", "ckpt=nonfinite.ckpt")
    assert done.code == 0, done.err
    said = re.search(r"loss (\S+):", done.out)
    assert said and float(said[1]) == losses[1][2] and "output is not finite: none" in done.out
    assert "weights before the step: finite" in done.out
    done = command("mshnet-train", "replay", f"ckpt={next((tmp_path / '2').rglob('last.ckpt'))}")
    assert done.code == 2 and "keeps no step to repeat" in done.err
