"""``mshnet-bench`` through the command line, its work counts against counting by hand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, Command

SETTINGS = ("backbone=efficientnet_lite0", "backbone.weights=random", "bench.sizes=[65]", "bench.repeats=2")


def test_a_row_a_case(command: Command, tmp_path: Path) -> None:
    done = command(
        "mshnet-bench",
        *SETTINGS,
        "bench.what=[forward,train]",
        "bench.shots=[2]",
        "bench.precision=[fp32]",
        "bench.out=b.json",
    )
    assert done.code == 0, done.err
    forward, train = json.loads((tmp_path / "b.json").read_text())["cases"]
    assert [forward["what"], train["what"]] == ["forward", "train"]
    assert [line.split(" | ")[0] for line in done.out.splitlines()[-5:-2]] == [
        "|---|---:|---:|---:|---|---|---:|---:|---:|---:|---:|---|",
        "| forward",
        "| train",
    ]
    for case in (forward, train):
        assert len(case["seconds"][case["what"]]) == len(case["seconds"]["unit"]) == 2 and case["peak_mib"] > 100
        assert case["units"] == pytest.approx(case["ms"] / case["unit_ms"])
    assert [*forward["parts_units"]] == ["backbone", "similarities", "head"]
    assert 2 * forward["gmac"] < train["gmac"] < 3.5 * forward["gmac"]  # the backbone has no backward pass
    again = command("mshnet-bench", *SETTINGS, "bench.out=b.json")
    assert again.code == 2 and "bench.out=b.json exists" in again.err


def test_work_grows_with_the_shots(command: Command, tmp_path: Path) -> None:
    done = command(
        "mshnet-bench", *SETTINGS, "model=prototype_baseline", "bench.what=[forward]",
        "bench.shots=[1,3]", "bench.precision=[fp32]", "bench.batch=1",
    )  # fmt: skip
    assert done.code == 0, done.err
    one, three = json.loads((tmp_path / "bench.json").read_text())["cases"]
    assert three["gmac"] == pytest.approx(2 * one["gmac"])  # two images through the backbone, then four
    assert [*one["parts_units"]] == ["backbone", "encode", "decode"]


def test_a_whole_test(command: Command, tmp_path: Path) -> None:
    done = command(
        "mshnet-bench", *SETTINGS, "data=synthetic", "model.width=8", "bench.what=[test]",
        "bench.shots=[1]", "bench.precision=[fp32]", "test.episodes=6",
    )  # fmt: skip
    assert done.code == 0, done.err
    (case,) = json.loads((tmp_path / "bench.json").read_text())["cases"]
    assert case["episodes_per_second"] == pytest.approx(1000 / case["ms"]) and case["gmac"] is None


def test_refused(command: Command, tmp_path: Path) -> None:
    done = command("mshnet-bench", "bench.batch=0", "bench.shots=[0]", "bench.what=[]", "bench.repeats=0")
    assert done.code == 2
    for problem in ("bench.batch=0", "bench.shots=0", "bench.what=[]", "bench.repeats=0"):
        assert problem in done.err
    assert not (tmp_path / "bench.json").exists()
    without_data = command("mshnet-bench", "bench.what=[test]")
    assert without_data.code == 2 and "bench.what=[test] needs a data set" in without_data.err
    unknown = command("mshnet-bench", "bench.precision=[fp16]")
    assert unknown.code == 2 and "expected one of [fp32, bf16]" in unknown.err


def test_hours_of_the_full_benchmark(tmp_path: Path) -> None:
    """Against the formula of the page; with four GPUs the last 5-shot job begins when three 1-shot jobs are done."""
    ms = {("train", 1): 20.0, ("train", 5): 60.0, ("forward", 1): 8.0, ("forward", 5): 25.0}
    for depth, slower in ((50, 1.0), (101, 1.5)):
        cases = [
            {
                "what": what,
                "shots": shots,
                "ms": slower * taken,
                "gmac": 2 * slower * taken,
                "peak_mib": 1000 * slower * shots,
            }
            for (what, shots), taken in ms.items()
        ]
        content = {"config": {"backbone": {"depth": depth}}, "cases": cases}
        (tmp_path / f"r{depth}.json").write_text(json.dumps(content))

    def hours(epoch: int, shots: int, slower: float) -> float:
        train, forward = slower * ms["train", shots], slower * ms["forward", shots]
        return (50 * epoch * train + (50 * epoch // 4000 * 200 + 1000) * forward) / 3_600_000

    for extra, factor in ((), 1.0), (("--sustained", "2"), 2.0):
        command = [sys.executable, ROOT / "experiments" / "full_benchmark.py", tmp_path / "r50.json", tmp_path / "r101.json"]
        done = subprocess.run([*command, *extra], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        rows = [[cell.strip() for cell in line.split("|")[2:-1]] for line in done.stdout.splitlines()[2:]]
        pascal, coco = ([hours(epoch, shots, 1.0) * factor for shots in (1, 5)] for epoch in (11_250, 7_500))
        for row, (one, five) in zip(rows, (pascal, coco), strict=False):
            expected = [4 * (one + five), 4 * (one + five), min(3 * one, five) + five, five]
            assert row == ["8", *(f"{value:.1f}" for value in expected), "5,000"]
        both = sum(12 * hours(11_250, shots, slower) for shots in (1, 5) for slower in (1.0, 1.5)) * factor
        assert rows[2][:3] == ["48", f"{both:.1f}", f"{both:.1f}"] and rows[2][-1] == "7,500"
        assert both / 8 <= float(rows[2][4]) + 0.05 < both / 8 + max(pascal) * 1.5
