"""The files that say which images episodes are made of, and reports without, with damaged and with few of them."""

import gzip
import hashlib
import json
import shutil
from pathlib import Path

import pytest

from conftest import Command
from mshnet_pl.report.collection import collect
from mshnet_pl.report.episode_images import Behind
from mshnet_pl.report.grouping import rows
from mshnet_pl.report.imagenet import OCCURRING
from mshnet_pl.results import load
from recorded import experiments
from report_runs import config, write_run

TINY = (
    "data.image_size=64", "model.width=8", "backbone.weights=random", "trainer.max_steps=1", "test.episodes=12",
    "test.seeds=[0,1]", "val.episodes=0", "trainer.enable_progress_bar=false", "runs=runs",
)  # fmt: skip


def test_a_run_keeps_its_episodes_images(command: Command, tmp_path: Path) -> None:
    done = command("mshnet-train", *TINY, "way=2")
    assert done.code == 0, done.err
    (path,) = (tmp_path / "runs").rglob("result.json")
    for test in load(path).tests:
        content = gzip.decompress((path.parent / "episodes" / f"{test.episodes_sha256}.json.gz").read_bytes())
        assert hashlib.sha256(content).hexdigest() == test.episodes_sha256
        rows = json.loads(content)
        assert len(rows) == 24 and test.query_images == len({query for query, _, _ in rows})
        assert test.support_images == len({name for _, supports, _ in rows for name in supports})
    done = command("mshnet-report", "runs", "format=markdown")
    assert "fewer than 100 distinct query images: fold 0" in done.out and "[" in done.out


def test_recorded_episodes_have_their_images() -> None:
    """All of ``experiments/``; ``collect`` compares their hashes and classes."""
    tests = collect([experiments()]).tests
    assert len({test.test.episodes_sha256 for test in tests}) == 66
    assert all(test.images is not None for test in tests)
    behind = Behind.of(test.images for test in tests if test.images)
    assert behind == (996, 1129)


def test_results_without_images_have_no_interval(command: Command, tmp_path: Path) -> None:
    a, b = (write_run(tmp_path / "runs" / name, config(seed=seed), 0.6, 60) for seed, name in enumerate("ab"))
    elsewhere = tmp_path / "runs" / "episodes"
    shutil.move(a / "episodes", elsewhere)
    shutil.rmtree(b / "episodes")
    done = command("mshnet-report", tmp_path / "runs", "format=csv")
    with_interval = done.out.splitlines()[1]
    assert command("mshnet-report", "compare", a, b).code == 0, "those above both are found"
    shutil.rmtree(elsewhere)
    done = command("mshnet-report", tmp_path / "runs", "format=markdown")
    assert done.code == 0 and "no interval over images for MSHNet" in done.out
    assert with_interval != command("mshnet-report", tmp_path / "runs", "format=csv").out.splitlines()[1]
    done = command("mshnet-report", "compare", a, b)
    assert done.code == 2 and "names of the episodes' images" in done.err


@pytest.mark.parametrize(
    "content", [b"", b"no gzip", gzip.compress(b"[]", mtime=0), gzip.compress(b"[" * 100_000, mtime=0), None]
)
def test_damaged_images_are_one_message(command: Command, tmp_path: Path, content: bytes | None) -> None:
    folder = write_run(tmp_path / "run", config(), 0.6, 40)
    (path,) = (folder / "episodes").iterdir()
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    done = command("mshnet-report", folder)
    assert done.code == 2 and f"{path} does not hold the images of episodes" in done.err and "Traceback" not in done.err


def test_power(command: Command, tmp_path: Path) -> None:
    """More images, episodes and trainings find smaller differences; one training each says nothing of others."""
    for name, iou in (("a", 0.6), ("b", 0.55)):
        for seed in (0, 1, 2):
            write_run(tmp_path / name / str(seed), config(seed=seed), iou + 0.02 * seed, 300)
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "fold0.txt").write_text("".join(f"image{i}__{1 + i % 5:02d}\n" for i in range(2000)))
    done = command("mshnet-report", "power", tmp_path / "a", tmp_path / "b", f"lists={lists}")
    assert done.code == 0, done.err
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.out.splitlines() if line.startswith("|")]
    error = {tuple(row[:1] + row[2:4]): float(row[4]) for row in rows if len(row) == 6 and row[0] in ("recorded", "lists")}
    assert error["lists", "1,000", "1"] < error["recorded", "1,000", "1"]
    assert error["lists", "20,000", "3"] <= error["lists", "1,000", "3"] < error["lists", "1,000", "1"]
    done = command("mshnet-report", "power", tmp_path / "a" / "0", tmp_path / "b" / "0")
    assert "how trainings vary is not known" in done.out
    assert command("mshnet-report", "power", tmp_path / "a", tmp_path / "b", "points=0").code == 2


def test_a_class_with_one_query_image_has_no_interval(command: Command, tmp_path: Path) -> None:
    """Nothing says how it varies: of four episodes of five classes, no interval, no p and no power."""
    a, b = (write_run(tmp_path / name, config(seed=seed), 0.6, 4) for seed, name in enumerate("ab"))
    report, why = command("mshnet-report", a, "format=markdown").out, "where a class has a single query image: fold 0 ("
    assert f"no interval {why}" in report and "test more episodes (test.episodes)" in report and " [" not in report
    done = command("mshnet-report", "compare", a, b)
    (row,) = (line for line in done.out.splitlines() if line.startswith("| mIoU"))
    assert [cell.strip() for cell in row.split("|")[5:7]] == ["-", "-"] and f"no interval, no p {why}" in done.out
    done = command("mshnet-report", "power", a, b)
    assert done.code == 2 and f"no variance {why}" in done.err and "Traceback" not in done.err


def test_intervals_of_scores_are_possible_ones(tmp_path: Path) -> None:
    """By the resamples alone that of the bicycle begins at -0.6."""
    folder = write_run(tmp_path / "run", config(), 0.0, 24)
    (row,) = (row for row in rows(collect([folder]).tests) if not row.is_baseline)
    made = row.estimate(1, [0], "bicycle")
    assert made and made.low == 0 and made.high and made.value < made.high < 100


def test_imagenet_categories_exist() -> None:
    meta = pytest.importorskip("torchvision.models._meta")
    assert {*OCCURRING.values()} <= {*meta._IMAGENET_CATEGORIES}
