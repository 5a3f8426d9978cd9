"""SIGKILL at random moments: the same command then ends as if nothing had been, and no file is half there before."""

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mshnet_pl import results
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.utils.checkpoint_file import read_checkpoint
from test_faults import assert_equal_weights, done, started
from test_interrupts import started as started_alone
from tiny import TINY

KILLS = [1, pytest.param(20, marks=pytest.mark.slow)]
CHANGING = {"date", "wall_seconds", "machine"}


def whole_files(folder: Path) -> dict[str, Any]:
    """What every file with a final name says, but for times: each can be read."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".json":
            content = json.loads(path.read_text())
            found[name] = {key: value for key, value in content.items() if key not in CHANGING}
            if path.name == results.FILE:
                results.load(path)
                for test in content["tests"]:
                    del test["seconds"], test["pictures_sha256"]  # of a file that has times inside
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                found[name] = {key: array.tobytes() for key, array in arrays.items()}
        elif path.suffix == ".png":
            with Image.open(path) as image:
                found[name] = np.asarray(image).tobytes()
        elif path.suffix == ".csv":
            found[name] = path.read_bytes()
    return found


def assert_kills_change_nothing(folder: Path, output: str, kills: int, name: str, *arguments: str) -> None:
    """Kill a command ``kills`` times, each time on its way to the undisturbed one's ``output``, and let it run then."""
    undisturbed = folder / "undisturbed"
    undisturbed.mkdir()
    done(undisturbed, *arguments, name=name)
    started_at = time.monotonic()
    expected = whole_files(undisturbed / output)
    for path in (undisturbed / output).rglob(results.FILE):
        path.unlink()
    done(undisturbed, *arguments, name=name)  # with everything imported
    seconds, rng, there = time.monotonic() - started_at, random.Random(0), []
    assert whole_files(undisturbed / output) == expected
    for number in range(kills):
        killed = folder / str(number)
        killed.mkdir()
        process = started(killed, *arguments, name=name)
        time.sleep(rng.uniform(0, seconds))
        process.kill()
        process.join()
        before = whole_files(killed / output)
        assert before.items() <= {**before, **expected}.items(), "a file that is whole and other"
        there.append(len(before))
        done(killed, *arguments, name=name)
        assert whole_files(killed / output) == expected
    print(f"mshnet-{name}: {kills} kills; of {len(expected)} files were there: {there}")


@pytest.mark.parametrize("kills", KILLS)
def test_a_test_that_is_killed(tmp_path: Path, other: Path, kills: int) -> None:
    assert_kills_change_nothing(
        tmp_path, "runs", kills, "test", f"ckpt={other}", "test.episodes=30", "test.pictures=4", "test.seeds=[0,1]"
    )


@pytest.mark.parametrize("kills", KILLS)
def test_a_prediction_that_is_killed(tmp_path: Path, checkpoint: Path, kills: int) -> None:
    source = Synthetic(size=80)
    for part in ("support/images", "support/masks", "query"):
        (tmp_path / part).mkdir(parents=True)
    source.image("val-00-0000").save(tmp_path / "support" / "images" / "a.png")
    Image.fromarray(255 * source.mask("val-00-0000", [0])).save(tmp_path / "support" / "masks" / "a.png")
    for number in range(20):
        source.image(f"val-00-{number:04d}").save(tmp_path / "query" / f"{number}.png")
    given = (f"ckpt={checkpoint}", "support=../support", "query=../query", "out=out", "overwrite=true")
    assert_kills_change_nothing(tmp_path, "out", kills, "predict", *given)


def last_steps(folder: Path) -> dict[str, int]:
    """How far every job is that a checkpoint is there of; the checkpoint is whole."""
    return {path.parts[-3]: read_checkpoint(path)["global_step"] for path in folder.rglob("last.ckpt")}


def times(folder: Path) -> set[int]:
    """When checkpoints were written."""
    return {path.stat().st_mtime_ns for path in folder.rglob("previous.ckpt")}


@pytest.mark.parametrize("kills", [pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_a_sweep_of_joblib_that_is_killed(tmp_path: Path, kills: int) -> None:
    """The workers and the processes of their jobs end with it, at any moment; so nobody holds a job when it starts again."""
    arguments = ("-m", *TINY, f"trainer.max_steps={8 * kills}", "save_every_n_steps=1", "threads=1", "seed=0,1")
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undisturbed.mkdir()
    killed.mkdir()
    done(undisturbed, *arguments)
    rng, steps = random.Random(0), []
    for number in range(kills):
        process, before = started_alone(killed, "mshnet-train", *arguments, "hydra/launcher=joblib"), times(killed)
        if number % 4:  # others while it starts
            while times(killed) <= before and process.poll() is None:
                time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5 if number % 4 else 10))
        process.kill()
        process.communicate()
        until = time.monotonic() + 60
        while is_there(process.pid) and time.monotonic() < until:
            time.sleep(0.05)
        assert not is_there(process.pid)
        steps.append(sum(last_steps(killed).values()))
    print(f"{kills} kills; steps of both jobs then: {steps}")
    assert "another process" not in done(killed, *arguments)
    for path in undisturbed.rglob("last.ckpt"):
        assert_equal_weights(read_checkpoint(path), read_checkpoint(killed / path.relative_to(undisturbed)))
    counts = [{path.name: path.read_bytes() for path in folder.rglob("episodes*.csv")} for folder in (undisturbed, killed)]
    assert counts[0] and counts[0] == counts[1]


def is_there(group: int) -> bool:
    """Whether a process group has any process."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
