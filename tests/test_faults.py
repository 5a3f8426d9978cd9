"""What ends a run in the middle: signals, kills, damaged checkpoints."""

import os
import random
import re
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

import forked
import tiny
from mshnet_pl.utils.checkpoint_file import read_checkpoint

STEPS = 200
TINY = (*tiny.TINY, f"trainer.max_steps={STEPS}", "save_every_n_steps=1", "threads=1", "scheduler=constant")


def started(folder: Path, *arguments: str, log: str = "log", name: str = "train") -> BaseProcess:
    given = (f"mshnet-{name}", *arguments)
    return forked.started(forked.command(name), folder, folder / log, *given, XDG_CACHE_HOME=str(folder / "cache"))


def done(folder: Path, *arguments: str, code: int = 0, name: str = "train") -> str:
    process = started(folder, *arguments, name=name)
    process.join()
    text = (folder / "log").read_text()
    assert process.exitcode == code, text
    return text


def assert_no_process_is_left(group: int) -> None:
    """Of a command that was started as a process group, soon after its end."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail(f"processes of group {group} run on")


def wait_for_checkpoints(folder: Path, process: BaseProcess, count: int) -> None:
    """Until ``last.ckpt`` was replaced ``count`` times."""
    seen: int | None = None
    while count and process.is_alive():
        found = next(folder.rglob("last.ckpt"), None)
        try:
            changed = found.stat().st_mtime_ns if found else None
        except FileNotFoundError:  # between two names
            continue
        count -= seen != changed
        seen = changed
        time.sleep(0.001)


def state(folder: Path) -> dict[str, Any]:
    return read_checkpoint(next(folder.rglob("last.ckpt")))


def assert_equal_weights(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first["global_step"] == second["global_step"]
    assert first["state_dict"].keys() == second["state_dict"].keys()
    for key, value in first["state_dict"].items():
        assert torch.equal(value, second["state_dict"][key]), key


@pytest.mark.parametrize(("interruptions", "steps"), [(3, 36), pytest.param(20, STEPS, marks=pytest.mark.slow)])
def test_interruptions_change_nothing(tmp_path: Path, interruptions: int, steps: int) -> None:
    """SIGKILL, SIGTERM and SIGUSR1 at random moments, now and then a last checkpoint cut short: the same weights."""
    settings = (*TINY, f"trainer.max_steps={steps}")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    done(whole, *settings)
    rng = random.Random(0)
    for time_number in range(interruptions):
        number = (signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1)[time_number % 3]
        process = started(cut, *settings)
        wait_for_checkpoints(cut, process, rng.randint(2, 8))
        time.sleep(rng.random() * 0.02)
        os.kill(process.pid or 0, number)
        process.join()
        text = (cut / "log").read_text()
        if number == signal.SIGKILL:
            assert process.exitcode == -number, text
        else:
            assert process.exitcode == 128 + number, text
            said = re.search(rf"error: {number.name}: stopped after step (\d+), saved as .*last\.ckpt", text)
            assert said and int(said[1]) == state(cut)["global_step"] and "Traceback" not in text
        if time_number % 7 == 3:  # as a disk may leave it after a loss of power
            last = next(cut.rglob("last.ckpt"))
            before = read_checkpoint(last.with_name("previous.ckpt"))["global_step"]
            last.write_bytes(last.read_bytes()[: rng.randint(0, last.stat().st_size - 1)])
            assert before > 0
    process = started(cut, *settings)
    process.join()
    assert process.exitcode == 0, (cut / "log").read_text()
    assert state(whole)["global_step"] == steps
    assert_equal_weights(state(whole), state(cut))


SHORT = (*TINY, "trainer.max_steps=6")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    done(folder, *SHORT)
    return folder


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    else:  # one bit of the weights
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("how", ["cut", "empty", "bit"])
def test_a_damaged_last_checkpoint_is_left_out(trained: Path, tmp_path: Path, how: str) -> None:
    expected = state(trained)
    (last,) = trained.rglob("last.ckpt")
    copy = tmp_path / "runs" / last.parent.relative_to(trained / "runs")
    copy.mkdir(parents=True)
    for name in ("last.ckpt", "previous.ckpt"):
        (copy / name).write_bytes((last.parent / name).read_bytes())
    damage(copy / "last.ckpt", how)
    text = done(tmp_path, *SHORT)
    assert re.search(r"last\.ckpt is not a checkpoint of mshnet-train: .*; it is left out", text)
    assert "resuming from" in text and "previous.ckpt" in text
    assert_equal_weights(expected, state(tmp_path))
    next(tmp_path.rglob("result.json")).unlink()
    for name in ("last.ckpt", "previous.ckpt"):
        damage(copy / name, how)
    text = done(tmp_path, *SHORT, code=2)
    assert "no other checkpoint" in text and "move the folder away" in text and "Traceback" not in text


def test_a_signal_ends_a_sweep(tmp_path: Path) -> None:
    """The job's own process gets it from the sweep's; later jobs are not started, and the same command does them all."""
    arguments = ("-m", *TINY, "trainer.max_steps=16", "seed=0,1")
    process = started(tmp_path, *arguments)
    wait_for_checkpoints(tmp_path, process, 3)
    os.kill(process.pid or 0, signal.SIGTERM)
    process.join()
    text = (tmp_path / "log").read_text()
    assert process.exitcode == 128 + signal.SIGTERM, text
    assert "SIGTERM: stopped after step" in text and len([*tmp_path.rglob("last.ckpt")]) == 1
    assert not [*tmp_path.rglob("error.json")] and not [*tmp_path.rglob("result.json")]
    done(tmp_path, *arguments)
    assert len([*tmp_path.rglob("result.json")]) == 2


def test_a_signal_while_a_long_message_is_on_its_way(tmp_path: Path) -> None:
    """Processes that fail block in their full pipes while nobody reads; SIGTERM ends them and their parent."""
    process = started(tmp_path, *TINY, "trainer.devices=2", "data.source._target_=broken_source.Complains")
    while not (tmp_path / "reached").exists() and process.is_alive():
        time.sleep(0.01)
    os.kill(process.pid or 0, signal.SIGSTOP)
    (tmp_path / "go").touch()
    time.sleep(1)
    os.kill(process.pid or 0, signal.SIGTERM)
    os.kill(process.pid or 0, signal.SIGCONT)
    process.join(60)
    assert process.exitcode == 128 + signal.SIGTERM, (tmp_path / "log").read_text()[:2000]
    assert_no_process_is_left(process.pid or 0)
