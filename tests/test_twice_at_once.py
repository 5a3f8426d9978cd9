"""The same sweep started twice by accident: its jobs are shared, each is done once, and neither sweep reports a failure."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from test_faults import TINY, started, wait_for_checkpoints

SWEEP = ("-m", *TINY, "trainer.max_steps=24", "seed=0,1,2,3")


def results(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in folder.rglob("result.json")}


def test_two_sweeps_share_the_jobs(tmp_path: Path) -> None:
    first = started(tmp_path, *SWEEP, log="first")
    wait_for_checkpoints(tmp_path, first, 1)
    second = started(tmp_path, *SWEEP, log="second")
    for process in (first, second):
        process.join()
    texts = [(tmp_path / name).read_text() for name in ("first", "second")]
    assert [first.exitcode, second.exitcode] == [0, 0], "\n".join(texts)
    assert "it is left to that process" in texts[1] and not [text for text in texts if "came to no result" in text]
    found = results(tmp_path)
    assert len(found) == 4 and not any(result["training"]["resumed"] for result in found.values())
    done = [text.count("result: ") for text in texts]
    assert sum(done) == 4 and min(done) >= 1, texts  # each job once, and both sweeps did some
    for text in texts:
        assert text.rstrip().endswith("mshnet-report runs")


def test_a_job_that_the_other_sweep_leaves_unfinished_is_reported(tmp_path: Path) -> None:
    first = started(tmp_path, "-m", *TINY, "trainer.max_steps=4000", "seed=0", log="first")
    wait_for_checkpoints(tmp_path, first, 1)
    (tmp_path / "second").touch()
    second = started(tmp_path, "-m", *TINY, "trainer.max_steps=4000", "seed=0", log="second")
    while "waiting for the process" not in (tmp_path / "second").read_text() and second.is_alive():
        time.sleep(0.05)
    os.kill(first.pid or 0, signal.SIGTERM)
    for process in (first, second):
        process.join()
    text = (tmp_path / "second").read_text()
    assert first.exitcode == 128 + signal.SIGTERM and second.exitcode == 1, text
    assert "1 jobs came to no result" in text and "another process was at work on it" in text and not results(tmp_path)
