"""``mshnet-report`` on folders as runs leave them."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from PIL import Image

from conftest import Command
from mshnet_pl import report
from mshnet_pl.results import load
from report_runs import VOC, config, write_run, write_sweep
from report_text import lines, records


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    write_sweep(tmp_path / "runs", episodes=60, pictures=False)
    return tmp_path / "runs"


def test_tables_of_a_sweep(command: Command, sweep: Path) -> None:
    done = command("mshnet-report", sweep, "format=markdown")
    assert done.code == 0, done.err
    table2, table4 = done.out.split("### ")[1:]
    assert table2.startswith("PASCAL-5i (Table 2") and table4.startswith("PASCAL-5i, single similarities (Table 4")
    (published,) = lines(table2, "MSHNet", "published", "1-shot")
    assert published[4:] == ["67.7", "71.8", "59.9", "62.4", "65.5", "77.8", "29.6 M"]
    assert lines(table4, "MSHNet Cosine", "published", "5-shot")[0][4:9] == ["68.0", "71.1", "62.8", "63.6", "66.4"]
    assert not lines(table2, "ResNet-101") and not lines(table2, "MSHNet cosine")
    measured = [load(next(sweep.rglob(f"mshnet_resnet50_cosine+prototype/fold{f}_1shot*/result.json"))) for f in range(4)]
    (ours,) = lines(table2, "MSHNet cosine+prototype", "best", "1-shot")
    assert ours[4:8] == [f"{result.tests[0].miou:.1f}" for result in measured] and ours[-1] == "29,626,952"
    for cell, score in ((ours[8], "miou"), (ours[9], "fb_iou")):
        mean, low, high = map(float, re.fullmatch(r"([\d.]+) \[([\d.]+), ([\d.]+)\]", cell).groups())
        assert mean == pytest.approx(fmean(getattr(result.tests[0], score) for result in measured), abs=0.051)
        assert low < mean < high < low + 12
    (everything,) = lines(table2, "everything foreground", "1-shot")
    assert everything[4] == f"{measured[0].tests[0].everything_foreground_miou:.1f}"
    notes = [line for line in table4.splitlines() if line.startswith("- missing")]
    assert len(notes) == 2 and "missing" not in table2
    assert "fold 2, 5-shot of MSHNet cosine, ResNet-50 (best), failed: CUDA out of memory. (log: " in notes[0]
    assert "fold 3, 5-shot of MSHNet prototype, ResNet-50 (best)" in notes[1] and "failed" not in notes[1]
    assert "one training seed" in done.out


def test_scores_of_every_class(command: Command, sweep: Path) -> None:
    done = command("mshnet-report", sweep, "classes=true", "format=markdown")
    assert done.code == 0, done.err
    one_shot, five_shot = done.out.split("### ")[3:]
    assert one_shot.startswith("PASCAL-5i, 1-shot") and five_shot.startswith("PASCAL-5i, 5-shot")
    for table, shot in ((one_shot, 1), (five_shot, 5)):
        (header, _, *body) = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if "|" in line]
        assert [row[0] for row in body] == [*VOC, *["objects by size"] * 4]
        column = header.index("MSHNet prototype, ResNet-50 (best)")
        for row in body[: len(VOC)]:
            fold = VOC.index(row[0]) // 5
            run = f"mshnet_resnet50_prototype/fold{fold}_{shot}shot*/result.json"
            own = [load(path).tests[0].class_iou[row[0]] for path in sweep.rglob(run)]
            assert row[column] == (f"{own[0]:.1f}" if own else "-")
    assert (shot, fold) == (5, 3) and body[len(VOC) - 1][column] == "-", "the cell that is missing"
    refused = command("mshnet-report", sweep, "classes=true", "format=csv")
    assert refused.code == 2 and "classes=true" in refused.err


def test_csv_and_latex(command: Command, sweep: Path) -> None:
    done = command("mshnet-report", sweep, "format=csv")
    (mean,) = records(done.out, method="MSHNet prototype", shot="1", fold="mean", source="measured")
    folds = [records(done.out, method="MSHNet prototype", shot="1", fold=str(f), source="measured")[0] for f in range(4)]
    for fold, record in enumerate(folds):
        test = load(next(sweep.rglob(f"mshnet_resnet50_prototype/fold{fold}_1shot*/result.json"))).tests[0]
        assert (float(record["miou"]), float(record["fb_iou"])) == (test.miou, test.fb_iou)
        assert float(record["miou_low"]) < test.miou < float(record["miou_high"])
    assert float(mean["miou"]) == pytest.approx(fmean(float(record["miou"]) for record in folds))
    widths = [float(record["miou_high"]) - float(record["miou_low"]) for record in folds]
    assert float(mean["miou_high"]) - float(mean["miou_low"]) == pytest.approx(np.linalg.norm(widths) / 4, rel=0.15)
    assert (mean["tests"], mean["training_seeds"], mean["trainable"]) == ("4", "1", "29626952")
    assert records(done.out, source="published", fold="2", shot="5", method="MSHNet Both-Sim")[0]["miou"] == "65.7"
    assert command("mshnet-report", sweep, "format=csv").out == done.out

    latex = command("mshnet-report", sweep, "format=latex").out
    first = latex.split(r"\end{table*}")[0]
    (columns,) = re.findall(r"\\begin{tabular}{(\w+)}", first)
    body = first.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert len(columns) == 3 + 2 * 6 + 1 and {line.count("&") for line in body} == {len(columns) - 1}
    assert all(line.endswith(r"\\") for line in body) and r"\multicolumn{6}{c}{5-shot}" in first
    assert r"fold2\_5shot" in latex and not re.search(r"(?<!\\)[_#%]", latex)


def test_results_without_counts_have_no_interval(tmp_path: Path, command: Command) -> None:
    folder = write_run(tmp_path / "a", config(), 0.6, 40)
    next(folder.glob("episodes_*.csv")).unlink()
    done = command("mshnet-report", tmp_path, "format=markdown")
    result = load(folder / "result.json")
    assert lines(done.out, "best")[0][4] == f"{result.tests[0].miou:.1f}" and "no interval for MSHNet" in done.out
    (line,) = lines(report.formats.markdown(report.tables.scores([result])), "best")
    assert line[4:6] == [f"{result.tests[0].miou:.1f}"] * 2


def test_bad_files_are_one_message(tmp_path: Path, command: Command) -> None:
    folder = write_run(tmp_path / "runs" / "a", config(), 0.6, 40)
    counts = next(folder.glob("episodes_*.csv"))
    good = counts.read_text()
    for bad, part in (
        (good.replace("\n1,", "\n1,x", 1), "does not hold pixel counts"),
        ("number,class\n1,2\n", "does not hold pixel counts"),
        (good.splitlines()[0], "does not hold pixel counts"),
        (good.splitlines()[0] + "\n# 1,2,3,4,5,6\n", "does not hold pixel counts"),
        ("\n".join(good.splitlines()[:20]), "mIoU is"),
    ):
        counts.write_text(bad)
        done = command("mshnet-report", tmp_path / "runs")
        assert done.code == 2 and part in done.err and counts.name in done.err and "Traceback" not in done.err
    counts.write_text(good)
    for damaged, text in (("pictures_best_1shot_seed0.npz", "pictures of episodes"), ("log/metrics.csv", "what was logged")):
        (folder / damaged).write_text("step,train/loss\n0,0.5\nx,0.4")
        done = command("mshnet-report", tmp_path / "runs")
        assert done.code == 2 and f"{damaged} does not hold {text}" in done.err
        (folder / damaged).unlink()
    (tmp_path / "runs" / "b").mkdir()
    (tmp_path / "runs" / "b" / "error.json").write_text('{"error": 1}')
    assert "b/error.json does not describe a failed run" in command("mshnet-report", tmp_path / "runs").err
    (tmp_path / "notes.html").write_text("<p>my notes</p>")
    done = command("mshnet-report", folder, f"html={tmp_path / 'notes.html'}")
    assert done.code == 2 and "is not overwritten" in done.err and "notes" in (tmp_path / "notes.html").read_text()
    assert "episodes=-1" in command("mshnet-report", folder, "episodes=-1").err


def test_damaged_pictures_are_one_message(tmp_path: Path, command: Command) -> None:
    folder = write_run(tmp_path / "runs", config(), 0.6, 40, pictures=True)
    path = folder / "pictures_best_1shot_seed0.npz"
    good = path.read_bytes()
    with np.load(path) as arrays:
        whole = dict(arrays)
    rng = np.random.default_rng(0)
    damaged = [good[: len(good) // 2], b""]
    for _ in range(20):
        content = bytearray(good)
        for at in rng.integers(len(good), size=40):
            content[at] = rng.integers(256)
        damaged.append(bytes(content))
    for change in (
        {"0/query": np.zeros(3)},
        {"0/query": np.zeros((96, 96, 3))},
        {"0/support": np.zeros(())},
        {"0/iou": np.zeros(2)},
    ):
        file = io.BytesIO()
        np.savez(file, **{**whole, **change})
        damaged.append(file.getvalue())
    for number, content in enumerate(damaged):
        path.write_bytes(content)
        done = command("mshnet-report", folder)
        assert "Traceback" not in done.err
        hit = done.code == 2 and f"{path} does not hold pictures of episodes" in done.err
        assert hit or (done.code == 0 and 2 <= number < 22), number  # random bytes may be where nothing is read


def test_names_are_text_wherever_they_are_shown(tmp_path: Path, command: Command) -> None:
    """A result's names come from its configuration: no formula in a spreadsheet, no column, HTML or picture in Markdown."""
    for number, name in enumerate(
        ("=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "a|b", "<img src=x>", "![](http://x.y/z.png)", "two\nlines")
    ):
        changes = {"backbone.name": name, "optimizer.lr": 0.1}
        write_run(tmp_path / "runs" / str(number), config(changes=changes), 0.6, 40)
    done = command("mshnet-report", tmp_path / "runs", "format=csv")
    cells = [cell for row in csv.reader(io.StringIO(done.out)) for cell in row]
    assert {"'=HYPERLINK(1)", "'+1", "'-1", "'@SUM(1)", "a|b"} <= {*cells}
    assert not any(cell.startswith(("=", "+", "@")) for cell in cells)
    done = command("mshnet-report", tmp_path / "runs", "format=markdown")
    table = [line for line in done.out.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert r"a\|b" in done.out and "&lt;img src=x>" in done.out and r"![]\(http://x.y/z.png)" in done.out
    assert "<img" not in done.out and "two lines" in done.out


def test_a_training_without_result_is_named(tmp_path: Path, command: Command) -> None:
    write_run(tmp_path / "good", config(), 0.6, 40)
    for name in ("good", "begun"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        (tmp_path / name / "mshnet.log").touch()
    done = command("mshnet-report", tmp_path)
    assert done.code == 0, done.err
    assert f"unfinished: {tmp_path / 'begun'}: no result yet" in done.out and done.out.count("unfinished") == 1


def test_only_failures(tmp_path: Path, command: Command) -> None:
    failure = {"overrides": ["fold=1"], "error": "no space left", "log": "a.log", "date": "2026-11-22T00:00:00+00:00"}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "error.json").write_text(json.dumps(failure))
    done = command("mshnet-report", tmp_path)
    assert done.code == 0 and f"failed: {tmp_path / 'a'}: no space left (log: a.log)" in done.out
    write_run(tmp_path / "runs", config(), 0.6, 40)
    (tmp_path / "a" / "error.json").rename(tmp_path / "runs" / "error.json")
    assert "failed" not in command("mshnet-report", tmp_path).out


def test_runs_behind_links_are_reported_once(tmp_path: Path, command: Command) -> None:
    """Links to a run, to a result, to a folder of runs, and in a circle; what they lead to lies on another disk."""
    run = write_run(tmp_path / "scratch" / "deep" / "run", config(), 0.5, episodes=60)
    elsewhere = write_run(tmp_path / "scratch" / "other", config(fold=1), 0.5, episodes=60)
    farm = tmp_path / "farm"
    farm.mkdir()
    for name, target in (("run", run), ("again", run), ("circle", farm), ("up", tmp_path), ("broken", tmp_path / "gone")):
        (farm / name).symlink_to(target)
    (farm / "result").mkdir()
    (farm / "result" / "result.json").symlink_to(elsewhere / "result.json")
    (tmp_path / "only").symlink_to(farm)
    for folder in (farm, tmp_path / "only"):
        done = command("mshnet-report", folder, "format=csv")
        assert done.code == 0, done.err
        found = records(done.out, source="measured", weights="best", shot="1")
        assert [(record["fold"], record["tests"]) for record in found] == [("0", "1"), ("1", "1")]
        assert all(record["miou_low"] for record in found), "the counts beside the results are found, too"


def test_grids_of_episodes(tmp_path: Path, command: Command) -> None:
    write_run(tmp_path / "runs", config(shot=2), 0.6, 40, pictures=True)
    heights, widths = [], []
    for each in (1, 2):
        done = command("mshnet-report", tmp_path / "runs", f"pictures={tmp_path / 'grids'}", f"episodes={each}")
        assert "grids/episodes_2shot.png" in done.err
        with Image.open(tmp_path / "grids" / "episodes_2shot.png") as grid:
            assert grid.width > 500 and len(grid.convert("RGB").getcolors(2**24) or []) > 1000
            heights.append(grid.height)
            widths.append(grid.width)
    assert heights[1] == pytest.approx(2 * heights[0], rel=0.1)
    done = command("mshnet-report", tmp_path / "runs", f"pictures={tmp_path / 'masks'}", "masks_only=true")
    with Image.open(tmp_path / "masks" / "episodes_2shot.png") as grid:
        colours = grid.convert("RGB")
        assert done.code == 0 and colours.convert("L").convert("RGB").tobytes() == colours.tobytes()
        assert grid.width < 0.9 * widths[0]  # four columns instead of five


def test_compare(tmp_path: Path, command: Command) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for fold in (0, 2):
        write_run(a / str(fold), config(fold), 0.62, 200, test_seeds=(0, 1))
        write_run(b / str(fold), config(fold, similarities="cosine"), 0.55, 200, test_seeds=(0, 1))
    done = command("mshnet-report", "compare", a, b)
    assert done.code == 0, done.err
    assert "folds 0, 2, 1-shot, 800 episodes" in done.out
    (row,) = lines(done.out, "mIoU")
    means = [fmean(test.miou for path in sorted(x.rglob("result.json")) for test in load(path).tests) for x in (a, b)]
    assert row[1:3] == [f"{mean:.1f}" for mean in means] and row[3] == f"{means[0] - means[1]:+.2f}"
    low, high = map(float, row[4].strip("[]").split(","))
    assert 0 < low < means[0] - means[1] < high and float(row[5]) == 0.0001
    same = command("mshnet-report", "compare", a, a).out
    assert lines(same, "mIoU")[0][3:] == ["+0.00", "[+0.00, +0.00]", "1.0000"]
    assert command("mshnet-report", "compare", a, b).out == done.out


def test_what_cannot_be_compared(tmp_path: Path, command: Command) -> None:
    good = write_run(tmp_path / "good", config(), 0.6, 40)
    keep = write_run(tmp_path / "keep", config(changes={"data.novel_pixels": "keep"}), 0.6, 40)
    others = write_run(tmp_path / "others", config(), 0.6, 41)
    seeds = write_run(tmp_path / "seeds", config(), 0.6, 40, test_seeds=(0, 1))
    fold = write_run(tmp_path / "fold", config(1), 0.6, 40)
    shot = write_run(tmp_path / "shot", config(shot=5), 0.6, 40)
    bare = write_run(tmp_path / "bare", config(similarities="cosine"), 0.6, 40)
    next(bare.glob("episodes_*.csv")).unlink()
    for folder, parts in (
        (keep, ["data.novel_pixels is drop in A and keep in B"]), (others, ["SHA-256 of the episodes"]),
        (seeds, ["test seeds [[0]]", "[[0, 1]]"]), (fold, ["folds [0]", "folds [1]"]), (shot, ["1-shot", "5-shot"]),
        (bare, ["lacks the episodes' pixel counts"]), (tmp_path, ["B leaves a choice", "weights=NAME", "MSHNet cosine,"]),
        (tmp_path / "none", ["none: no such folder; give one with results"]),
    ):  # fmt: skip
        done = command("mshnet-report", "compare", good, folder)
        assert done.code == 2 and "Traceback" not in done.err
        for part in parts:
            assert part in done.err, done.err
    assert "has nothing that fits" in command("mshnet-report", "compare", good, keep, "weights=last").err
    result = json.loads((keep / "result.json").read_text())
    result["config"]["data"]["novel_pixels"] = "drop"
    result["tests"][0]["resolution"] = "original"
    (keep / "result.json").write_text(json.dumps(result))
    assert "eval.resolution is resized in A and original in B" in command("mshnet-report", "compare", good, keep).err


def test_a_report_starts_without_pytorch() -> None:
    program = "import sys, mshnet_pl.cli.report; print({'torch', 'torchmetrics', 'pytorch_lightning'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
