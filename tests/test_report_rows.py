"""Which results share a row of ``mshnet-report``'s tables, and what tells rows apart."""

from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Command
from mshnet_pl.config import Config
from mshnet_pl.config.settings import Effect, effects
from mshnet_pl.report import config_names as settings
from mshnet_pl.results import load, save
from report_runs import VOC, config, write_run
from report_text import lines, records


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.novel_pixels", "keep"), ("data.image_size", 257), ("eval.resolution", "original"), ("way", 2),
        ("test.protocol", "published"), ("test.episodes", 500), ("val.classes", "base_heldout"), ("optimizer.lr", 0.025),
        ("data.source.root", "part_of_VOC2012"), ("backbone.weights", "other.pth"), ("variant", "no_atrous"),
        ("trainer.devices", [0, 1]),
    ],
)  # fmt: skip
def test_what_changes_the_numbers_is_never_averaged(key: str, value: object, tmp_path: Path, command: Command) -> None:
    write_run(tmp_path / "a", config(0), 0.6, 40)
    write_run(tmp_path / "b", config(1), 0.6, 40)
    write_run(tmp_path / "c", config(1, seed=1, changes={key: value}), 0.5, 40)
    done = command("mshnet-report", tmp_path, "format=csv")
    ours = [record for record in records(done.out, weights="best") if record["fold"] != "mean"]
    groups = [
        sorted(r["fold"] for r in ours if (r["method"], r["settings"]) == group)
        for group in dict.fromkeys((r["method"], r["settings"]) for r in ours)
    ]
    assert sorted(groups) == [["0", "1"], ["1"]]
    (alone,) = (
        r
        for r in ours
        if (r["method"], r["settings"]) not in {(x["method"], x["settings"]) for x in ours if x["fold"] == "0"}
    )
    if key == "variant":
        assert alone["method"] == "MSHNet cosine+prototype, no_atrous" and not alone["settings"]
    else:
        assert alone["settings"] == ("processes=2" if key == "trainer.devices" else f"{key}={value}")


def test_differences_are_named_below_the_table(tmp_path: Path, command: Command) -> None:
    write_run(tmp_path / "a", config(), 0.6, 40)
    write_run(tmp_path / "b", config(changes={"data.novel_pixels": "keep", "optimizer.lr": 0.1}), 0.5, 40)
    done = command("mshnet-report", tmp_path, "format=markdown")
    assert [row[1] for row in lines(done.out, "best")] == [f"MSHNet cosine+prototype #{n}" for n in (1, 2)]
    assert "- #1: data.novel_pixels=drop, optimizer.lr=0.01\n- #2: data.novel_pixels=keep, optimizer.lr=0.1\n" in done.out
    assert not list(tmp_path.rglob("*.html")) and not list(tmp_path.rglob("*.png"))


def test_what_changes_no_number_is_averaged(tmp_path: Path, command: Command) -> None:
    """Training seeds and test seeds; a test that was repeated counts once."""
    write_run(tmp_path / "a", config(0, seed=0), 0.6, 40, test_seeds=(0, 1))
    write_run(tmp_path / "b", config(0, seed=1, changes={"runs": "other", "test.seeds": [0]}), 0.5, 40)
    write_run(tmp_path / "again", config(0, seed=0), 0.6, 40)
    done = command("mshnet-report", tmp_path, "format=csv")
    (cell,) = records(done.out, source="measured", fold="0", method="MSHNet cosine+prototype")
    (a0, a1), (b0,) = load(tmp_path / "a" / "result.json").tests, load(tmp_path / "b" / "result.json").tests
    assert float(cell["miou"]) == pytest.approx(((a0.miou + a1.miou) / 2 + b0.miou) / 2)
    assert (cell["tests"], cell["training_seeds"]) == ("3", "2")
    (everything,) = records(done.out, method="everything foreground", fold="0")
    assert everything["tests"] == "2"


def test_a_newer_result_takes_the_place_of_an_older_one(tmp_path: Path, command: Command) -> None:
    write_run(tmp_path / "old", config(), 0.6, 40, date="2026-01-01T00:00:00+00:00")
    write_run(tmp_path / "new", config(), 0.5, 40, date="2026-02-01T00:00:00+00:00")
    done = command("mshnet-report", tmp_path, "format=markdown")
    (row,) = lines(done.out, "best")
    assert "#" not in row[1]
    assert row[4].startswith(f"{load(tmp_path / 'new' / 'result.json').tests[0].miou:.1f} [")
    assert f"left out of MSHNet cosine+prototype, ResNet-50 (best): {tmp_path / 'old'}" in done.out


def test_shots_of_training(tmp_path: Path, command: Command) -> None:
    """A test says them; one that does not is known by its checkpoint's hash, or not guessed without that training."""
    write_run(tmp_path / "train", config(shot=1), 0.6, 40, training={"checkpoint_sha256": "aa"})
    for name, training in (
        ("said", {"checkpoint_sha256": "cc", "shot": 2}),
        ("known", {"checkpoint_sha256": "aa"}),
        ("unknown", {"checkpoint_sha256": "bb"}),
    ):
        write_run(tmp_path / name, config(shot=5, changes={"ckpt": name}), 0.65, 40, command="test", training=training)
    done = command("mshnet-report", tmp_path, "format=markdown")
    assert [row[2] for row in lines(done.out, "MSHNet cosine+prototype")] == [
        "best",
        "best, 1-shot training",
        "best, 2-shot training",
        "best, ? training",
    ]


def test_other_classes_than_those_left_out_of_training_are_a_row_of_their_own(tmp_path: Path, command: Command) -> None:
    pascal = config()["data"]["source"]["_target_"]
    write_run(tmp_path / "train", config(), 0.6, 40, training={"checkpoint_sha256": "aa"})
    for name, fold, trained in (("same", 1, (1, pascal)), ("seen", 2, (1, pascal)), ("other", 3, (3, "x.coco.Coco20i"))):
        training = {"checkpoint_sha256": "aa", "fold": trained[0], "data": trained[1]}
        write_run(tmp_path / name, config(fold, changes={"ckpt": name}), 0.7, 40, command="test", training=training)
    done = command("mshnet-report", tmp_path, "format=markdown")
    words = ["best", "best, tested classes trained", "best, trained on Coco20i"]
    rows = {row[2]: row[4:8] for row in lines(done.out, "MSHNet cosine+prototype")}
    assert sorted(rows) == words
    assert [[cell != "-" for cell in rows[word]] for word in words] == [
        [True, True, False, False], [False, False, True, False], [False, False, False, True]
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["markdown", "latex"])
def test_all_classes_have_a_column_beside_the_folds(tmp_path: Path, command: Command, form: str) -> None:
    """Published lines have nothing there."""
    result = load(write_run(tmp_path / "all", config(), 0.7, 40) / "result.json")
    result.config["fold"] = "all"
    save(tmp_path / "all", result)
    done = command("mshnet-report", tmp_path, f"format={form}")
    assert done.code == 0 and f"{result.tests[0].miou:.1f}" in done.out
    if form == "markdown":
        assert {row[8] for row in lines(done.out, "published")} == {"-"}


def free_run(folder: Path, fold: int | str) -> None:
    """A test of a network that nothing trained; ``all`` has the episodes of fold 0."""
    result = load(write_run(folder, config(fold if isinstance(fold, int) else 0), 0.7, 40) / "result.json")
    result.config["fold"] = fold
    save(folder, replace(result, tests=[replace(test, weights="training-free") for test in result.tests]))
    (folder / "episodes_best_1shot_seed0.csv").rename(folder / "episodes_training-free_1shot_seed0.csv")


def test_every_class_and_folds_share_no_row(tmp_path: Path, command: Command) -> None:
    for fold in (0, 1, 2, 3, "all"):
        free_run(tmp_path / "runs" / str(fold), fold)
    done = command("mshnet-report", tmp_path / "runs", "format=csv")
    assert done.code == 0, done.err
    for trained, folds in (("", ["0", "1", "2", "3", "mean"]), ("every class", ["all", "mean"])):
        found = records(done.out, weights="training-free", trained=trained)
        assert [record["fold"] for record in found] == folds and not {record["settings"] for record in found} - {""}
    for name in ("compare", "power"):
        done = command("mshnet-report", name, tmp_path / "runs", tmp_path / "runs")
        assert done.code == 2 and "(training-free, every class)" in done.err and "Traceback" not in done.err


def test_classes_that_no_episode_has_count_as_tested(tmp_path: Path, command: Command) -> None:
    """Of older files only those are known that an episode had."""
    past = {"data": "Pascal5i", "fold": 1, "classes": [*VOC[:5]]}
    told = {"trainings": [past], "tested_on": "Pascal5i", "tested_classes_trained": [*VOC[:5]], "shot": 1}
    for number, words in ((None, "every class trained"), (5, "every class trained"), (20, "5 of 20 tested classes trained")):
        folder = tmp_path / str(number)
        training = told if number is None else {**told, "tested_classes": number}
        result = load(write_run(folder, config(), 0.7, 40, command="test", training=training) / "result.json")
        result.config["fold"] = "all"
        save(folder, result)
        done = command("mshnet-report", folder, "format=csv")
        assert {record["trained"] for record in records(done.out, weights="best")} == {words}


def test_what_changes_no_result_and_what_a_table_shows_keeps_no_rows_apart() -> None:
    apart = {key for key, effect in effects(Config).items() if effect is Effect.YES}
    named = {
        "fold",
        "init_from",
        "shot",
        "seed",
        "ckpt",
        "ckpt_path",
        "variant",
        "similarity",
        "model.backbone",
        "backbone.trainable",
    }
    named |= {"data.root", "data.splits_dir", "test.untrained", "test.seeds", "test.shots", "test.checkpoint"}
    assert not apart & (named | settings._APART) and settings._APART >= named | {"data.bad_files", "loss.nonfinite"}
    assert {"way", "data.image_size", "loss.inner_weight", "eval.guided", "trainer.precision", "callbacks"} <= apart


def test_a_moved_class_stays_in_its_row(tmp_path: Path, command: Command) -> None:
    """Results of one network, whose classes were in other files when the second was written."""
    write_run(tmp_path / "new", config(), 0.6, 40)
    moved = config(1)
    for node in (moved["model"], moved["backbone"], moved["data"]["source"]):
        node["_target_"] = "elsewhere." + node["_target_"].rpartition(".")[2]
    write_run(tmp_path / "old", moved, 0.7, 40)
    done = command("mshnet-report", tmp_path, "format=markdown")
    (row,) = lines(done.out, "MSHNet cosine+prototype")
    assert [cell != "-" for cell in row[4:8]] == [True, True, False, False]
