"""Ctrl-C, as a terminal sends it to all processes of a command: the first saves and says how to go on, a second one ends."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from conftest import Command
from forked import Forked
from mshnet_pl.utils.checkpoint_file import read_checkpoint
from predict_files import draw_queries
from test_faults import assert_no_process_is_left
from tiny import TINY

ENDLESS = (*TINY, "trainer.max_steps=100000", "save_every_n_steps=1", "threads=1", "scheduler=constant")


def slow(value: str) -> ParameterSet:
    return pytest.param(value, marks=pytest.mark.slow)


def started(folder: Path, name: str, *arguments: object) -> "subprocess.Popen[str]":
    """A command in a process group of its own, as a shell starts it."""
    module = name.removeprefix("mshnet-")
    begin = f"import sys; sys.argv[0] = {name!r}; import mshnet_pl.cli; print('begun', file=sys.stderr, flush=True)"
    call = f"{begin}; from mshnet_pl.cli.{module} import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", call, *map(str, arguments)], cwd=folder, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def interrupted_when(
    ready: Callable[[], bool], process: "Forked | subprocess.Popen[str]", times: int = 1
) -> tuple[int, str]:
    """The exit code and what was said, of a process that gets Ctrl-C once it is ready."""
    until = time.monotonic() + 120
    while not ready() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    for number in range(times):
        time.sleep(0.3 * number)
        os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in out + err, err
    return process.returncode, err


def some_checkpoints(folder: Path) -> Callable[[], bool]:
    return lambda: any(folder.rglob("previous.ckpt"))


@pytest.mark.parametrize("more", ["", slow("trainer.devices=2"), slow("-m seed=0,1"), slow("data.num_workers=2")])
def test_training_is_saved(tmp_path: Path, more: str) -> None:
    process = Forked("mshnet-train", tmp_path, *more.split(), *ENDLESS)
    code, err = interrupted_when(some_checkpoints(tmp_path), process)
    assert code == 130, err
    said = re.search(r"error: SIGINT: stopped after step (\d+), saved as (.*last\.ckpt)\. The same command resumes", err)
    assert said and read_checkpoint(tmp_path / said[2])["global_step"] == int(said[1]), err
    assert len([*tmp_path.rglob("last.ckpt")]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_every_job_of_a_sweep_is_saved(tmp_path: Path, number: signal.Signals) -> None:
    """Joblib's workers outlive Ctrl-C, which all processes get, and SIGTERM, which one gets: until their jobs have saved."""
    arguments = ("-m", *ENDLESS, "hydra/launcher=joblib", "seed=0,1,2,3")
    process = started(tmp_path, "mshnet-train", *arguments)
    while len([*tmp_path.rglob("previous.ckpt")]) < 2 and process.poll() is None:
        time.sleep(0.01)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number and "Traceback" not in out + err, out + err
    assert f"error: {number.name}: what was under way is saved, and no further job was started. The same command" in err
    steps = {path: read_checkpoint(tmp_path / path)["global_step"] for path in tmp_path.rglob("last.ckpt")}
    said = re.findall(rf"{number.name}: stopped after step (\d+), saved as (\S+)\. ", out + err)
    assert {tmp_path / path: int(step) for step, path in said} == steps and len(steps) == 2
    assert not [*tmp_path.rglob("error.json")]


@pytest.mark.parametrize("more", ["", slow("-m seed=0,1 hydra/launcher=joblib")])
def test_a_second_one_ends_at_once(tmp_path: Path, more: str) -> None:
    """While a validation of minutes keeps the first from its checkpoint."""
    long = ("val.episodes=100000", "val.every_n_steps=2")
    process = started(tmp_path, "mshnet-train", *more.split(), *ENDLESS, *long)
    code, err = interrupted_when(some_checkpoints(tmp_path), process, times=2)
    assert code == -signal.SIGINT, err


@pytest.mark.slow
def test_a_sweep_that_has_just_begun(tmp_path: Path) -> None:
    """The processes that its first look at the data needs are importing: they end without a word."""
    process = started(tmp_path, "mshnet-train", "-m", *TINY, "seed=0,1")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def server_imports() -> bool:
        commands = (Path(f"/proc/{child}/cmdline").read_bytes() for child in children.read_text().split())
        return any(b"forkserver" in command for command in commands)

    code, err = interrupted_when(server_imports, process)
    assert code == 130 and err.count("error: SIGINT: ") == 1, err
    assert_no_process_is_left(process.pid)


def test_predictions_are_recorded(tmp_path: Path, checkpoint: Path, command: Command) -> None:
    draw_queries(tmp_path, 400)
    arguments = (f"ckpt={checkpoint}", "support=support", "query=query", "out=out")
    process = Forked("mshnet-predict", tmp_path, *arguments)
    code, err = interrupted_when(lambda: any(tmp_path.glob("out/*_mask.png")), process)
    masks = len([*tmp_path.glob("out/*_mask.png")])
    assert code == 130 and 0 < masks < 400, err
    assert f"SIGINT: {masks} of 400 images are segmented, as out/predictions.json says" in err
    for path in (tmp_path / "query").glob("*[1-9].png"):
        path.unlink()
    assert command("mshnet-predict", *arguments, "overwrite=true").code == 0


def test_a_command_that_saves_nothing(tmp_path: Path) -> None:
    """While it imports what it needs, and at work: no line, or one."""
    for number in range(100):
        (tmp_path / "runs" / str(number)).mkdir(parents=True)
    for seconds in (0.0, 1.0, 2.0):
        process = started(tmp_path, "mshnet-report", *["runs"] * 20_000)
        assert process.stderr is not None and process.stderr.readline() == "begun\n"
        until = time.monotonic() + seconds
        code, err = interrupted_when(lambda until=until: time.monotonic() > until, process)
        assert (code, err) == (-signal.SIGINT, "") or (code == 130 and err.count("\n") == 1 and "SIGINT: every file" in err)


@pytest.mark.parametrize("name", ["train", "predict", *(slow(name) for name in ("test", "report", "prepare", "app"))])
def test_a_reader_that_has_enough(tmp_path: Path, name: str) -> None:
    """``mshnet-... --help | head -0``; argparse ends well on its own."""
    with started(tmp_path, f"mshnet-{name}", "--help") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode in (0, 141) and err == "begun\n", err


@pytest.mark.parametrize("name", ["train", *(slow(name) for name in ("test", "predict", "report", "prepare", "export"))])
def test_a_folder_that_has_been_removed(tmp_path: Path, name: str) -> None:
    command = 'mkdir gone; cd gone; rmdir ../gone; exec "$0"'
    done = subprocess.run(
        ["bash", "-c", command, str(Path(sys.executable).parent / f"mshnet-{name}")],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "error: the current folder has been removed; change into another one" in done.stderr


def test_streams_that_are_closed(tmp_path: Path) -> None:
    """A command that has nowhere to print ends as ever."""
    (tmp_path / "runs").mkdir()
    reports = f"{Path(sys.executable).parent / 'mshnet-report'} runs"
    for closed in (">&-", ">&- 2>&-", ">&- 2>&- <&-"):
        assert subprocess.run(["bash", "-c", f"{reports} {closed}"], cwd=tmp_path, check=False).returncode == 2
        assert subprocess.run(["bash", "-c", f"{reports} --help {closed}"], cwd=tmp_path, check=False).returncode == 0
