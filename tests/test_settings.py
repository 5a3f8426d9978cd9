"""Random changes of every setting: each gives one message before any work, or a run that starts and ends."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, Command
from mshnet_pl import config, results
from mshnet_pl.runs.job import Run
from random_changes import TINY


@pytest.mark.parametrize("changes", [15, pytest.param(500, marks=pytest.mark.slow)])
def test_random_changes(tmp_path: Path, changes: int) -> None:
    program = [sys.executable, ROOT / "tests" / "random_changes.py", str(changes), "0"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    outcomes = json.loads(done.stdout)
    assert not outcomes["failed"], "\n\n".join(f"{settings}\n{what}" for settings, what in outcomes["failed"].items())
    assert outcomes["met"]["message"] + outcomes["met"]["run"] == changes and outcomes["met"]["run"] > changes / 20
    assert {"fold", "data.source.size", "optimizer.lr", "loss.nonfinite", "callbacks.ema.decay"} <= {*outcomes["names"]}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["optimizer.lr=-1"], "Invalid learning rate: -1"),
        (["optimizer.lr=abc"], "(in optimizer)"),
        (["+optimizer.unknown=1"], "unknown"),
        (["scheduler.final=[1]"], "(in scheduler)"),
        (["scheduler=every_steps", "scheduler.steps=0"], "(in scheduler)"),
        (["trainer.accumulate_grad_batches=0"], "trainer.accumulate_grad_batches=0: give a whole number of at least 1"),
        (["trainer.max_epochs=1.5"], "trainer.max_epochs=1.5: give a whole number"),
        (["trainer.gradient_clip_val=nan"], "trainer.gradient_clip_val=nan"),
        (["trainer=null"], "trainer=null: give the name of one of its choices"),
        (["model=null"], "model=null: give the name of one of its choices"),
        (["eval='${fold}'"], "eval=0: give a group of settings"),
        (["test.seeds=[[1]]"], "test.seeds=[[1]]: give"),
        (["test.seeds=[0,0]"], "test.seeds=[0, 0]: give each value once"),
        (["test.shots=[1,5,1]"], "test.shots=[1, 5, 1]: give each value once"),
        (["seed=4294967296"], "seed=4294967296: give a number from 0 to 4294967295"),
        (["trainer.devices=null"], "trainer.devices=None: give a number of processes, auto, or a list of GPUs"),
        (["trainer.devices=2.5"], "trainer.devices=2.5: give a number"),
        (["trainer.devices=-2"], "trainer.devices=-2: give a number"),
        (["trainer.devices=0"], "trainer.devices=0: give a number"),
        (["trainer.devices=[0,0]"], "trainer.devices=[0, 0]: give a number"),
        (["trainer.devices=many"], "trainer.devices=many: give a number"),
        (["+trainer.num_nodes=null"], "trainer.num_nodes=None: give a whole number"),
        (["loss.inner_weight=nan"], "loss.inner_weight=nan"),
        (["loss.foreground_weight=0"], "loss.foreground_weight=0.0: give a number of at least 0.01"),
        (["loss.nonfinite=maybe"], "stop"),
        (["data.bad_files=maybe"], "skip"),
        (["data.source.size=true"], "data.source.size=True: give a whole number"),
        (["data.source.seed=-1"], "data.source.seed=-1: give a whole number"),
        (["optimizer._partial_=1"], "optimizer._partial_=1: give true or false"),
        (["callbacks=[ema]", "callbacks.ema.decay=2"], "callbacks.ema.decay=2"),
        (["callbacks=[lr_finder]", "callbacks.lr_finder.min_lr=2.5"], "min_lr=2.5, max_lr=1.0"),
        (["callbacks=[early_stopping]", "val.episodes=1", "callbacks.early_stopping.patience=x"], "patience"),
        (["threads=abc"], "threads"),
    ],
)
def test_the_command_line_says_it(command: Command, tmp_path: Path, arguments: list[str], part: str) -> None:
    done = command("mshnet-train", *TINY, *arguments)
    assert done.code == 2 and "Traceback" not in done.err and done.err.count("error: ") == 1, done.err
    assert part in done.err, done.err
    assert not [*tmp_path.rglob(results.FILE)]


def test_a_run_is_the_same_in_another_process(tmp_path: Path) -> None:
    raw = config.compose("data=synthetic", "fold=2", "eval.fusion=vote")
    run = Run.of(raw, tmp_path)
    other = pickle.loads(pickle.dumps(run))
    assert other == run and other.config == config.typed(raw) and other.folder == tmp_path
    assert other.digest == config.config_hash(config.plain(raw))
