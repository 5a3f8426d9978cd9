"""A job in a process of its own: what it says arrives, however long, and its failure is told whatever its clock says."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from conftest import Command
from mshnet_pl.runs import jobs
from tiny import TINY


def test_a_message_longer_than_a_pipe_holds(command: Command, tmp_path: Path) -> None:
    """A text of 66,000 letters is refused in the job's process; up to 64 KiB would have left it at once."""
    long = "x" * 66_000
    done = command("mshnet-train", "-m", *TINY, f"data.source.size={long}1,{long}2")
    assert done.code == 1 and "2 jobs came to no result" in done.err, done.err[-1000:]
    told = [len(json.loads(path.read_text())["error"]) for path in tmp_path.rglob("error.json")]
    assert len(told) == 2 and min(told) > 1 << 16


@pytest.mark.parametrize("behind", [timedelta(minutes=-10), timedelta(minutes=10)])
def test_a_clock_that_is_wrong(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: timedelta) -> None:
    """A sweep's failures are what is new below its folder: an old one stays out, whatever its date says."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.now(tz) + behind  # type: ignore[arg-type]

    monkeypatch.setattr("mshnet_pl.results.datetime", Clock)
    for seed in (0, 0, 1):
        done = command("mshnet-train", "-m", *TINY, "optimizer.lr=-1", f"seed={seed}")
        assert done.code == 1 and "1 jobs came to no result" in done.err, done.err


def test_the_folder_that_a_failure_names_is_left_alone(command: Command, tmp_path: Path) -> None:
    settings = ("-m", *TINY, "optimizer.lr=-1", "seed=0")
    assert command("mshnet-train", *settings).code == 1
    (path,) = tmp_path.rglob("error.json")
    (tmp_path / "elsewhere").mkdir()
    path.write_text(json.dumps({**json.loads(path.read_text()), "log": str(tmp_path / "elsewhere" / "mshnet.log")}))
    jobs.wait_for_others(tmp_path, {})
    assert not [*(tmp_path / "elsewhere").iterdir()] and (path.parent / ".lock").exists()
