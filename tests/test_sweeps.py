"""Sweeps through the real command line: launchers, interruptions, failures, several processes."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch

import tiny
from conftest import Command
from mshnet_pl import Segmenter
from mshnet_pl.config.composition import register
from mshnet_pl.errors import ConfigError
from mshnet_pl.utils.devices import claim, listed
from ray_nodes import Cluster, free_address

SCRIPTS = Path(sys.executable).parent
TESTS = Path(__file__).parent
TINY = (*tiny.TINY, "test.episodes=6", "test.pictures=1", "logger=csv")
SWEEP = (*TINY, "data.source.train_images=50", "fold=0,1", "shot=1,5")


def started(folder: Path, *arguments: str, command: str = "mshnet-train") -> "subprocess.Popen[str]":
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM")}
    places = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment |= {"PYTHONPATH": places, "XDG_CACHE_HOME": str(folder / "cache")}
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:  # no pipes: a job may outlive its launcher
        return subprocess.Popen(
            [SCRIPTS / command, *arguments], cwd=folder, env=environment, text=True, stdout=out, stderr=err,
            start_new_session=True,
        )  # fmt: skip


def done(folder: Path, *arguments: str, command: str = "mshnet-train", code: int | None = 0) -> tuple[str, str]:
    process = started(folder, *arguments, command=command)
    process.wait(timeout=600)
    out, err = (folder / "out").read_text(), (folder / "err").read_text()
    assert code in (process.returncode, None), err
    return out, err


def results(folder: Path) -> dict[str, dict[str, Any]]:
    """Every run's result by the name of its folder."""
    return {path.parent.name: json.loads(path.read_text()) for path in folder.rglob("result.json")}


def scores(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """All that every run measured but its time."""
    return {
        name: [{key: value for key, value in test.items() if key != "seconds"} for test in result["tests"]]
        for name, result in results(folder).items()
    }


def counts(folder: Path) -> dict[str, str]:
    """Every run's pixel counts by the name of its folder."""
    return {path.parent.name: path.read_text() for path in folder.rglob("episodes_*.csv")}


def test_ray_sets_gpus_aside_where_a_job_has_its_own() -> None:
    register()
    for settings, gpus in (([], 0), (["strategy=gpu_per_job"], 1), (["strategy=gpu_per_job", "trainer.devices=2"], 2)):
        with hydra.initialize_config_module("mshnet_pl.conf", version_base="1.3"):
            config = hydra.compose("config", [*settings, "hydra/launcher=ray"], return_hydra_config=True)
        assert config.hydra.launcher.ray.remote.num_gpus == gpus and config.gpus is None


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "basic", "submitit_local", "ray"])
def test_a_sweep_killed_in_the_middle_and_started_again(
    launcher: str, command: Command, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Against the same sweep, uninterrupted, one job after the other."""
    reference = tmp_path / "reference"
    assert command("mshnet-train", "-m", *SWEEP, f"runs={reference}").code == 0
    folder = tmp_path / "killed"
    folder.mkdir()
    arguments = ["-m", *SWEEP, f"hydra/launcher={launcher}"]
    if launcher == "ray":
        arguments.append(f"hydra.launcher.ray.init.address={request.getfixturevalue('ray_cluster').address}")
    first = started(folder, *arguments)
    deadline = time.monotonic() + 240
    while len(results(folder)) < 2 and time.monotonic() < deadline and first.poll() is None:
        time.sleep(0.05)
    first.kill()
    first.wait()
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("result.json")}
    assert len(kept) >= 2
    while "another process is at work" in done(folder, *arguments, code=None)[1]:  # submitit's jobs outlive their launcher
        time.sleep(1)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(results(folder)) == 4 and scores(folder) == scores(reference) and counts(folder) == counts(reference)
    assert command("mshnet-report", folder).out == command("mshnet-report", reference).out


@pytest.mark.slow
@pytest.mark.parametrize("ray_cluster", [2], indirect=True)
def test_a_node_that_is_killed_in_the_middle(command: Command, tmp_path: Path, ray_cluster: Cluster) -> None:
    """The other one does its jobs."""
    reference = tmp_path / "reference"
    assert command("mshnet-train", "-m", *SWEEP, f"runs={reference}").code == 0
    folder = tmp_path / "killed"
    folder.mkdir()
    sweep = started(folder, "-m", *SWEEP, "hydra/launcher=ray", f"hydra.launcher.ray.init.address={ray_cluster.address}")
    deadline = time.monotonic() + 300
    while sweep.poll() is None and time.monotonic() < deadline:
        if "ray::_run_job" in ray_cluster.at_work(1) and results(folder):
            break
        time.sleep(0.05)
    assert sweep.poll() is None and 1 <= len(results(folder)) < 4
    ray_cluster.kill(1)
    assert sweep.wait(timeout=300) == 0, (folder / "err").read_text()
    assert len(results(folder)) == 4 and scores(folder) == scores(reference) and counts(folder) == counts(reference)
    assert not [*folder.rglob("error.json")]


def test_a_failed_job_does_not_end_the_sweep(command: Command, tmp_path: Path) -> None:
    sweep = command("mshnet-train", "-m", *TINY, "fold=7,0")
    assert sweep.code == 1 and "1 jobs came to no result" in sweep.err and "folds 0 to 3" in sweep.err
    assert len(results(tmp_path)) == 1
    (error,) = tmp_path.rglob("error.json")
    failure = json.loads(error.read_text())
    assert "fold=7" in failure["overrides"] and "fold=7" in Path(failure["log"]).read_text()


def test_a_job_that_was_killed_runs_when_the_sweep_is_started_again(command: Command, tmp_path: Path) -> None:
    sweep = ("-m", *TINY, "data.source._target_=broken_source.Dies", "seed=0,1")
    first = command("mshnet-train", *sweep)
    assert first.code == 1 and "2 jobs came to no result" in first.err
    assert "SIGKILL" in first.err and "out of memory" in first.err
    assert len([*tmp_path.rglob("error.json")]) == 2 and not results(tmp_path)
    (tmp_path / "mended").touch()
    again = command("mshnet-train", *sweep)
    assert again.code == 0, again.err
    assert len(results(tmp_path)) == 2 and not [*tmp_path.rglob("error.json")]


@pytest.mark.parametrize(("folds", "episodes"), [((0,), 40), pytest.param((0, 1), 1000, marks=pytest.mark.slow)])
def test_several_processes_train_and_test_every_job_of_a_sweep(
    command: Command, tmp_path: Path, folds: tuple[int, ...], episodes: int
) -> None:
    settings = ("data.image_size=64", "trainer.max_steps=6", "data.batch_size=3", "val.episodes=5", "val.every_n_steps=6")
    settings = (*TINY, *settings, "model.width=8", f"test.episodes={episodes}", "data.source.val_images=25")
    sweep = command("mshnet-train", "-m", *settings, "trainer.devices=2", f"fold={','.join(map(str, folds))}")
    assert sweep.code == 0, sweep.err
    trained = results(tmp_path)
    assert sorted(result["config"]["fold"] for result in trained.values()) == [*folds]
    for result in trained.values():
        assert result["training"]["episodes"] == 6 * 3 * 2 and result["tests"][0]["episodes"] == episodes
    for fold, path in enumerate(sorted((tmp_path / "runs").rglob("last.ckpt"))):
        undecided = tmp_path / f"undecided{fold}.ckpt"
        _balance(path, undecided)
        for name, devices, batch in (("two", 2, 3), ("one", 1, 3), ("seven", 1, 7)):
            changes = (f"trainer.devices={devices}", f"data.batch_size={batch}", f"runs={name}")
            tested = command("mshnet-test", f"ckpt={undecided}", *changes)
            assert tested.code == 0, tested.err
    two, one, seven = (sorted(counts(tmp_path / name).values()) for name in ("two", "one", "seven"))
    assert len(two) == len(folds) and two == one == seven
    for result in results(tmp_path / "one").values():
        test = result["tests"][0]
        assert min(test["intersection"].values()) > 0 and test["background_iou"] > 5  # both labels are predicted


def _balance(path: Path, target: Path) -> None:
    """Shift a briefly trained network's bias so that about half of the pixels become foreground: rounding would show."""
    images, masks = np.random.default_rng(0).random((6, 64, 64, 3), np.float32), np.zeros((6, 64, 64), np.uint8)
    masks[:, 16:48, 16:48] = 1
    segmenter = Segmenter.from_checkpoint(path).fit([images[0]], [masks[0]])
    median = float(np.median([margin.numpy() for margin in segmenter.margins([*images[1:]])]))
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["state_dict"]["method.decoder.head.2.bias"][1] -= median
    torch.save(checkpoint, target)


@pytest.mark.slow
def test_torchrun_starts_the_processes(command: Command, tmp_path: Path) -> None:
    settings = (*TINY, "trainer.devices=2", "trainer.strategy=ddp")
    train = str(SCRIPTS / "mshnet-train")
    done(tmp_path, "--nproc-per-node=2", "--no-python", train, *settings, "runs=outside", command="torchrun")
    assert command("mshnet-train", *settings, "runs=inside").code == 0
    assert len(results(tmp_path / "outside")) == 1 and scores(tmp_path / "outside") == scores(tmp_path / "inside")


@pytest.mark.slow
def test_torchrun_on_two_machines(command: Command, tmp_path: Path) -> None:
    settings, network = (*TINY, "trainer.strategy=ddp"), free_address()
    machines = []
    for rank in range(2):  # both are this one, each with a folder to work in and a process
        (tmp_path / f"machine{rank}").mkdir()
        torchrun = ("--nnodes=2", f"--node-rank={rank}", "--rdzv-backend=c10d", f"--rdzv-endpoint={network}", "--no-python")
        train = (str(SCRIPTS / "mshnet-train"), *settings, "+trainer.num_nodes=2", f"runs={tmp_path / 'outside'}")
        machines.append(started(tmp_path / f"machine{rank}", *torchrun, *train, command="torchrun"))
    for rank, machine in enumerate(machines):
        assert machine.wait(timeout=600) == 0, (tmp_path / f"machine{rank}" / "err").read_text()
    assert command("mshnet-train", *settings, "trainer.devices=2", "runs=inside").code == 0
    assert len(results(tmp_path / "outside")) == 1 and scores(tmp_path / "outside") == scores(tmp_path / "inside")


@pytest.mark.slow
def test_a_gpu_a_job(tmp_path: Path) -> None:
    done(tmp_path, "-m", *TINY, "hydra/launcher=gpus", "gpus=[4,6]", "seed=0,1,2")
    used = [result["machine"]["cuda_visible_devices"] for result in results(tmp_path).values()]
    assert len(used) == 3 and {*used} == {"4", "6"}


def _hold(locks: Path, wanted: int, used: "multiprocessing.SimpleQueue[tuple[str, float, float]]") -> None:
    with claim(["0", "1", "2"], wanted, locks) as visible:
        start = time.monotonic()
        time.sleep(0.3)
        assert visible is not None
        used.put((visible, start, time.monotonic()))


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_no_two_jobs_on_one_device(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # these processes need nothing imported
    used = context.SimpleQueue()
    jobs = [context.Process(target=_hold, args=(tmp_path, wanted, used)) for wanted in (1, 2, 1, 2, 3)]
    for job in jobs:
        job.start()
    held = [used.get() for _ in jobs]
    for job in jobs:
        job.join()
        assert job.exitcode == 0
    spans: dict[str, list[tuple[float, float]]] = {}
    for visible, start, end in held:
        for device in visible.split(","):
            spans.setdefault(device, []).append((start, end))
    assert sum(map(len, spans.values())) == 9
    for device in spans.values():
        ordered = sorted(device)
        assert all(end <= start for (_, end), (start, _) in pairwise(ordered))


@pytest.mark.parametrize(("gpus", "part"), [("all", "no GPU"), ([0, 0], "once"), ("some", "gpus=some")])
def test_refused_devices(gpus: Any, part: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    monkeypatch.setattr("mshnet_pl.utils.devices.count", lambda: 0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(ConfigError, match=part):
        listed(gpus)
    with pytest.raises(ConfigError, match="2 GPUs"), claim([3], 2):
        pass


def test_two_at_once_in_one_folder(command: Command, tmp_path: Path) -> None:
    waiting = (*TINY, "data.source._target_=broken_source.Complains")
    first = started(tmp_path, *waiting)
    try:
        while not (tmp_path / "reached").exists() and first.poll() is None:
            time.sleep(0.1)
        second = command("mshnet-train", *waiting)
        assert second.code == 2 and "another process is at work" in second.err, second.err
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
