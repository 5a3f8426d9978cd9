"""SIGKILL at random moments: the same command then ends as if nothing had been, and no process or half a file stays."""

import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mshnet_pl import results
from mshnet_pl.utils.checkpoint_file import read_checkpoint
from predict_files import draw_queries
from test_faults import assert_equal_weights, assert_no_process_is_left, done, started
from test_interrupts import started as started_alone
from tiny import TINY

KILLS = [2, pytest.param(20, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
CHANGING = {"date", "wall_seconds", "seconds", "machine", "git", "content_sha256"}
"""Of a result: times and places, and the checksum of all of it."""


def without_changing(node: Any) -> Any:  # noqa: ANN401 - parsed JSON
    if isinstance(node, dict):
        return {key: without_changing(value) for key, value in node.items() if key not in CHANGING}
    return [without_changing(part) for part in node] if isinstance(node, list) else node


def whole_files(folder: Path) -> dict[str, Any]:
    """What every file with a final name says, but for times: each can be read."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".json":
            found[name] = without_changing(json.loads(path.read_text()))
            if path.name == results.FILE:
                results.load(path)
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                found[name] = {key: array.tobytes() for key, array in arrays.items()}
        elif path.suffix == ".png":
            with Image.open(path) as image:
                found[name] = np.asarray(image).tobytes()
        elif path.suffix in (".csv", ".gz"):
            found[name] = path.read_bytes()
    return found


def assert_kills_change_nothing(folder: Path, output: str, kills: int, name: str, *arguments: str) -> None:
    """Kill a command ``kills`` times, each time on its way to the undisturbed one's ``output``, and let it run then."""
    undisturbed = folder / "undisturbed"
    undisturbed.mkdir()
    done(undisturbed, *arguments, name=name)  # which starts the server of the others, too
    expected = whole_files(undisturbed / output)
    rng, seconds, there = random.Random(0), 0.0, []
    for number in range(kills):
        killed = folder / str(number)
        killed.mkdir()
        process = started(killed, *arguments, name=name)
        time.sleep(rng.uniform(0, seconds) if seconds else 1)
        process.kill()
        process.join()
        assert_no_process_is_left(process.pid or 0)
        before = whole_files(killed / output)
        before = {path: content for path, content in before.items() if "/log/" not in path}  # which grows
        assert before == {path: content for path, content in expected.items() if path in before}
        there.append(len(before))
        begun = time.monotonic()
        done(killed, *arguments, name=name)
        seconds = time.monotonic() - begun
        assert whole_files(killed / output) == expected
        assert not [*killed.rglob("*.part")]
    print(f"mshnet-{name}: {kills} kills; of {len(expected)} files were there: {there}")


@pytest.mark.parametrize("kills", KILLS)
def test_a_test_that_is_killed(tmp_path: Path, other: Path, kills: int) -> None:
    settings = ("test.episodes=6", "test.pictures=1", "test.seeds=[0,1]", "threads=1")
    assert_kills_change_nothing(tmp_path, "runs", kills, "test", f"ckpt={other}", *settings)


@pytest.mark.parametrize("kills", KILLS)
def test_a_prediction_that_is_killed(tmp_path: Path, checkpoint: Path, kills: int) -> None:
    draw_queries(tmp_path, 20)
    given = (f"ckpt={checkpoint}", "support=../support", "query=../query", "out=out", "overwrite=true", "format=coco")
    assert_kills_change_nothing(tmp_path, "out", kills, "predict", *given)


def last_steps(folder: Path) -> dict[str, int]:
    """How far every job is that has a checkpoint; each can be read."""
    return {path.parts[-3]: read_checkpoint(path)["global_step"] for path in folder.rglob("*.ckpt") if path.stem == "last"}


def times(folder: Path) -> set[int]:
    """When checkpoints were written."""
    return {path.stat().st_mtime_ns for path in folder.rglob("previous.ckpt")}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_sweep_of_joblib_that_is_killed(tmp_path: Path, kills: int = 20) -> None:
    """The workers and the processes of their jobs end with it, at any moment; so nobody holds a job when it starts again."""
    arguments = ("-m", *TINY, f"trainer.max_steps={8 * kills}", "save_every_n_steps=1", "threads=1", "seed=0,1")
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"

    def whole(folder: Path) -> str:
        process = started_alone(folder, "mshnet-train", *arguments, "hydra/launcher=joblib")
        err = process.communicate()[1]
        assert process.returncode == 0, err
        return err

    undisturbed.mkdir()
    killed.mkdir()
    whole(undisturbed)
    rng, steps = random.Random(0), []
    for number in range(kills):
        process, before = started_alone(killed, "mshnet-train", *arguments, "hydra/launcher=joblib"), times(killed)
        if number % 4:  # others while it starts
            while times(killed) <= before and process.poll() is None:
                time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5 if number % 4 else 10))
        process.kill()
        process.communicate()
        assert_no_process_is_left(process.pid)
        steps.append(sum(last_steps(killed).values()))
    print(f"{kills} kills; steps of both jobs then: {steps}")
    assert "another process" not in whole(killed)
    for path in undisturbed.rglob("last.ckpt"):
        assert_equal_weights(read_checkpoint(path), read_checkpoint(killed / path.relative_to(undisturbed)))
    counts = [{path.name: path.read_bytes() for path in folder.rglob("episodes*.csv")} for folder in (undisturbed, killed)]
    assert counts[0] and counts[0] == counts[1]
    assert not [*killed.rglob("*.part")] and not [*killed.rglob(results.FAILURE)]
