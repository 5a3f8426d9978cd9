"""``mshnet-bench`` through the command line, its work counts against counting by hand."""

import json
from pathlib import Path

import pytest

from conftest import Command

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
