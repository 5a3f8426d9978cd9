"""``mshnet-bench`` through the command line, and what it measures, its work counts against counting by hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch

from conftest import ROOT, Command
from mshnet_pl import config
from mshnet_pl.backbones import ResNet
from mshnet_pl.bench import measure
from mshnet_pl.config import bench_schema

SETTINGS = ("backbone=efficientnet_lite0", "backbone.weights=random")


@pytest.mark.slow
def test_a_case_in_processes_of_its_own(command: Command, tmp_path: Path) -> None:
    done = command(
        "mshnet-bench", *SETTINGS, "bench.sizes=[65]", "bench.repeats=2", "bench.what=[forward]", "bench.shots=[2]",
        "bench.precision=[fp32]", "bench.out=b.json",
    )  # fmt: skip
    assert done.code == 0, done.err
    (case,) = json.loads((tmp_path / "b.json").read_text())["cases"]
    assert (case["what"], case["size"], case["shots"], case["precision"]) == ("forward", 65, 2, "32-true")
    assert [line.split(" | ")[0] for line in done.out.splitlines()[-4:-2]] == [
        "|---|---:|---:|---:|---|---|---:|---:|---:|---:|---:|---|",
        "| forward",
    ]
    assert len(case["seconds"]["forward"]) == len(case["seconds"]["unit"]) == 2 and case["peak_mib"] > 100
    assert case["units"] == pytest.approx(case["ms"] / case["unit_ms"])
    again = command("mshnet-bench", *SETTINGS, "bench.out=b.json")
    assert again.code == 2 and "bench.out=b.json exists" in again.err


Measured = Callable[..., dict[str, Any]]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    """Measures a case at 65 x 65 in this process, beside a unit as small."""
    monkeypatch.setattr(measure, "_UNIT_SIZE", 65)
    bench_schema.register()
    config.register()

    def run(what: str, shots: int, *overrides: str) -> dict[str, Any]:
        with hydra.initialize_config_module("mshnet_pl.conf", version_base="1.3"):
            raw = hydra.compose("bench", overrides=[*SETTINGS, "trainer.accelerator=cpu", *overrides])
        case = {"what": what, "size": 65, "shots": shots, "batch": 1, "precision": "32-true", "compile": False}
        found = measure.measure(raw, {**case, "repeats": 1, "memory": False})
        return {**found, **measure.summary(found["seconds"], 1)}

    return run


LEARNS = "backbone.trainable=true"  # where the head alone would have no backward pass, or a light one
SETTINGS_OF = {"panet": (LEARNS,), "ppnet": (LEARNS,), "fwb": (LEARNS, "model.experts=0")}


@pytest.mark.one_in(5)
@pytest.mark.parametrize(
    "model", ["mshnet", "hsnet", "panet", "pfenet", "mshnet_lite", "cyctr", "asgnet", "ppnet", "rpmm", "fwb"]
)
def test_a_training_step_is_a_forward_pass_and_a_backward_pass(measured: Measured, model: str) -> None:
    settings = (f"model={model}", *SETTINGS_OF.get(model, ()))
    forward, train = (measured(what, 1, *settings) for what in ("forward", "train"))
    assert 0 < 1.5 * forward["gmac"] < train["gmac"] and "backbone" in forward["parts_units"]
    if model == "mshnet":
        assert [*forward["parts_units"]] == ["backbone", "similarities", "head"]
        assert 2 * forward["gmac"] < train["gmac"] < 3.5 * forward["gmac"]  # the backbone has no backward pass


def test_work_grows_with_the_shots(measured: Measured) -> None:
    one, three = (measured("forward", shots, "model=prototype_baseline") for shots in (1, 3))
    assert three["gmac"] == pytest.approx(2 * one["gmac"])  # two images through the backbone, then four
    assert [*one["parts_units"]] == ["backbone", "encode", "decode"]


@torch.no_grad()
def test_work_is_the_same_in_bf16() -> None:
    backbone = ResNet(50, weights="random", blocks=[1, 2])

    def forward(bf16: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            backbone(torch.zeros(1, 3, 33, 33))

    assert measure._gmac(lambda: forward(True)) == measure._gmac(lambda: forward(False)) > 0


def test_a_whole_test(measured: Measured) -> None:
    case = measured("test", 1, "data=synthetic", "model.width=8", "test.episodes=6")
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


def test_hours_of_the_full_benchmark(command: Command, tmp_path: Path) -> None:
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
        done = command("python", ROOT / "experiments" / "full_benchmark.py", "r50.json", "r101.json", *extra)
        assert done.code == 0, done.err
        rows = [[cell.strip() for cell in line.split("|")[2:-1]] for line in done.out.splitlines()[2:]]
        pascal, coco = ([hours(epoch, shots, 1.0) * factor for shots in (1, 5)] for epoch in (11_250, 7_500))
        for row, (one, five) in zip(rows, (pascal, coco), strict=False):
            expected = [4 * (one + five), 4 * (one + five), min(3 * one, five) + five, five]
            assert row == ["8", *(f"{value:.1f}" for value in expected), "5,000"]
        both = sum(12 * hours(11_250, shots, slower) for shots in (1, 5) for slower in (1.0, 1.5)) * factor
        assert rows[2][:3] == ["48", f"{both:.1f}", f"{both:.1f}"] and rows[2][-1] == "7,500"
        assert both / 8 <= float(rows[2][4]) + 0.05 < both / 8 + max(pascal) * 1.5
