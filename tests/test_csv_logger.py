"""The CSV file of an interrupted training holds what an uninterrupted one's does."""

import csv
from pathlib import Path

from mshnet_pl.training import CSVTracker


def log(folder: Path, first: int, last: int, test: bool = True) -> None:
    """A training's steps from ``first`` on, validated at every third, saved at every second, tested at its end."""
    tracker = CSVTracker(folder, name="log", version="")
    for step in range(first, last):
        tracker.log_metrics({"train/loss": 1 / (1 + step), "epoch": 0}, step)
        if step % 3 == 2:
            tracker.log_metrics({"val/miou": step / 10, "epoch": 0}, step)
        if step % 2:
            tracker.save()
    if test:
        tracker.log_metrics({"test/miou": 0.5, "epoch": 1}, last)
    tracker.save()


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log" / "metrics.csv").open(newline="") as file:
        return sorted(csv.DictReader(file), key=lambda row: (int(row["step"]), bool(row["val/miou"])))


def test_what_was_logged_before_an_interruption_stays(tmp_path: Path) -> None:
    log(tmp_path / "whole", 0, 12)
    for first in (1, 4, 6, 9, 12):  # of the checkpoint that it resumes from, two steps before the end
        folder = tmp_path / str(first)
        log(folder, 0, min(first + 2, 12), test=False)
        log(folder, first, 12)
        assert rows(folder) == rows(tmp_path / "whole")
    log(folder, 12, 12)  # the test alone
    assert rows(folder) == rows(tmp_path / "whole")


def test_a_damaged_file_gives_way(tmp_path: Path) -> None:
    log(tmp_path / "whole", 0, 6)
    (tmp_path / "damaged" / "log").mkdir(parents=True)
    (tmp_path / "damaged" / "log" / "metrics.csv").write_bytes(b"step,train/loss\nx,y\n,,,\n\xff\xfe\0")
    log(tmp_path / "damaged", 0, 6)
    assert rows(tmp_path / "damaged") == rows(tmp_path / "whole")
