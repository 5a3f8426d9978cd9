"""Result files that were edited, mixed up or written by another version: the report says which and why."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from conftest import Command
from mshnet_pl import results
from report_runs import config, write_run

TINY = (*tiny.TINY, "trainer.max_steps=1", "test.episodes=12", "optimizer.lr=1")
COUNTS = "episodes_last_1shot_seed0.csv"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folders of two real runs, on other episodes each."""
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        from mshnet_pl.cli import train

        for fold in (0, 1):
            patch.setattr("sys.argv", ["mshnet-train", *TINY, f"fold={fold}", f"runs={folder}"])
            train.main()
    return sorted(path.parent for path in folder.rglob("result.json"))


@pytest.fixture
def runs(recorded: list[Path], tmp_path: Path) -> list[Path]:
    """Copies of them to change."""
    return [Path(shutil.copytree(folder, tmp_path / "runs" / folder.name)) for folder in recorded]


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "result.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_untouched_results_are_as_they_are(command: Command, runs: list[Path]) -> None:
    done = command("mshnet-report", "runs")
    assert done.code == 0 and "note:" not in done.out + done.err, done.out
    for folder in runs:
        content = json.loads((folder / "result.json").read_text())
        assert content["metric"] == results.METRIC and content["tests"][0]["counts_sha256"]
        (folder / "result.json").write_text(json.dumps(content))  # otherwise laid out, the same content
    assert "note:" not in command("mshnet-report", "runs").out


NUMBERS = {
    "miou": "mIoU is", "fb_iou": "FB-IoU is", "foreground_iou": "foreground IoU is", "background_iou": "background IoU is",
    "everything_foreground_miou": "mIoU of everything foreground is", "episodes": "number of episodes is",
    "class_iou": "IoU of", "intersection": "intersection of", "union": "union of",
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERS)
def test_an_edited_number(command: Command, runs: list[Path], name: str) -> None:
    def change(content: dict[str, Any]) -> None:
        (test,) = content["tests"]
        if isinstance(test[name], dict):
            test[name][next(iter(test[name]))] += 1
        else:
            test[name] += 1

    edit(runs[1], change)
    done = command("mshnet-report", "runs")
    assert done.code == 2 and done.err.startswith("error: results that cannot be right") and "Traceback" not in done.err
    assert NUMBERS[name] in done.err and f"{runs[1]}/result.json" in done.err and str(runs[0]) not in done.err


def test_scores_that_agree_with_each_other_but_not_with_the_episodes(command: Command, runs: list[Path]) -> None:
    other = json.loads((runs[0] / "result.json").read_text())["tests"]
    edit(runs[1], lambda content: content.update(tests=other))
    done = command("mshnet-report", "runs")
    assert done.code == 2 and COUNTS in done.err and str(runs[1]) in done.err


@pytest.mark.parametrize("how", ["cell", "row", "swapped", "spaces"])
def test_edited_counts(command: Command, runs: list[Path], how: str) -> None:
    path = runs[1] / COUNTS
    lines = path.read_text().splitlines()
    if how == "cell":
        *others, predicted, true, known = lines[3].split(",")
        lines[3] = ",".join([*others, str(int(predicted) + 1), true, known])
    elif how == "row":
        del lines[-1]
    elif how == "swapped":
        lines = (runs[0] / COUNTS).read_text().splitlines()
    else:  # the same numbers
        lines = [line.replace(",", ", ") if i else line for i, line in enumerate(lines)]
    path.write_text("\n".join(lines) + "\n")
    done = command("mshnet-report", "runs")
    assert done.code == 2 and f"{path}: not the file that was written with the result" in done.err


BAD = {
    "fold": "zero", "shot": 1.5, "seed": None, "model": [], "model._target_": 1, "model.similarities": "cosine",
    "backbone": None, "data.source": "VOC", "data.novel_pixels": {}, "eval": None, "trainer": [1],
}  # fmt: skip
FIELDS = {
    "tests": {}, "novel": [1], "splits": 1, "learnable_parameters": "many", "training": [], "machine": [], "bad_files": [1],
    "date": 7, "versions": {"torch": 2}, "wall_seconds": True, "config": 1, "format": "1",
}  # fmt: skip
SCORES = {"miou": "high", "class_iou": [1], "union": {"cat": 1.5}, "episodes": None, "seed": 10**30, "weights": 1}


@pytest.mark.parametrize(
    ("where", "name"), [("config", n) for n in BAD] + [("", n) for n in FIELDS] + [("tests", n) for n in SCORES]
)
def test_values_of_another_type(command: Command, runs: list[Path], where: str, name: str) -> None:
    def change(content: dict[str, Any]) -> None:
        node = content["tests"][0] if where == "tests" else content["config"] if where else content
        *groups, key = name.split(".")
        for group in groups:
            node = node[group]
        node[key] = {"config": BAD, "": FIELDS, "tests": SCORES}[where][name]

    edit(runs[1], change)
    done = command("mshnet-report", "runs")
    assert done.code == 2 and "Traceback" not in done.err
    assert done.err.startswith(f"error: {runs[1]}/result.json is not a result file: ") and "move it away" in done.err


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '{"tests":' * 500 + "1" + "}" * 500, "\udcff"])
@pytest.mark.parametrize("name", ["result.json", "error.json"])
def test_files_that_are_no_records(command: Command, runs: list[Path], text: str, name: str) -> None:
    (runs[1] / "result.json").unlink()
    path = runs[1] / name
    path.write_bytes(text.encode(errors="surrogateescape"))
    done = command("mshnet-report", "runs")
    assert done.code == 2 and done.err.startswith(f"error: {path} ") and "move it away" in done.err, done.err


def test_the_end_of_a_sweep_passes_over_damaged_failures(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / name).mkdir()
    results.save_failure(tmp_path / "a", ["fold=0"], "error", tmp_path / "a" / "log")
    good = json.loads((tmp_path / "a" / "error.json").read_text())
    for name, text in (
        ("b", "[]"),
        ("c", json.dumps({**good, "date": "2026-11-22"})),
        ("d", json.dumps({**good, "overrides": 1})),
    ):
        (tmp_path / name / "error.json").write_text(text)
    assert [failure.overrides for failure in results.failures(tmp_path, {}).values()] == [["fold=0"]]


def test_another_metric_and_another_folder(command: Command, runs: list[Path]) -> None:
    edit(runs[0], lambda content: content.update(metric=2))
    done = command("mshnet-report", "runs")
    assert done.code == 2 and f"{runs[0]}/result.json: scored by version 2 of the metric" in done.err
    shutil.copy(runs[1] / "result.json", runs[0])
    shutil.copy(runs[1] / COUNTS, runs[0])
    done = command("mshnet-report", "runs")
    assert done.code == 2 and f"in the folder of {runs[0].name[-10:]}" in done.err


def test_an_edited_setting_is_named(command: Command, runs: list[Path]) -> None:
    edit(runs[0], lambda content: content["config"]["data"].update(novel_pixels="keep"))
    done = command("mshnet-report", "runs")
    assert done.code == 0 and f"note: {runs[0]}/result.json was edited after it was written" in done.out
    assert "was edited after" in Path("runs/report.html").read_text()


def test_tests_of_a_row_on_different_episodes(command: Command, tmp_path: Path) -> None:
    """Two training seeds whose data were not the same, and a run that went without images and steps."""
    write_run(tmp_path / "runs" / "a", config(seed=0), 0.6, episodes=200)
    write_run(tmp_path / "runs" / "b", config(seed=1), 0.6, episodes=190)
    missed = {"bad_files": {"2007_000039": "2007_000039.jpg: truncated"}, "training": {"skipped_steps": 3}}
    write_run(tmp_path / "runs" / "c", config(seed=2), 0.6, episodes=200, **missed)
    done = command("mshnet-report", "runs")
    assert done.code == 0, done.err
    (line,) = [line for line in done.out.splitlines() if "different episodes" in line]
    assert "fold 0, 1-shot, test seed 0 of MSHNet" in line and "runs/a" in line and "runs/b" in line
    assert "runs/c/result.json went without 1 bad images: 2007_000039" in done.out
    assert "runs/c/result.json left out 3 steps that were not finite" in done.out
