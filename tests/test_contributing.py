"""The example of CONTRIBUTING.md, run as it stands there."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import torch

from conftest import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()


def fenced(after: str, language: str) -> str:
    """The first code block of a language after some words."""
    found = re.compile(rf"^```{language}\n(.*?)^```$", re.DOTALL | re.MULTILINE).search(TEXT, TEXT.index(after))
    assert found
    return found[1]


def test_the_example_method_trains_and_is_tested(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "nearest_pixel.py").write_text(fenced("`nearest_pixel.py`", "python"))
    (tmp_path / "model" / "nearest_pixel.yaml").write_text(fenced("`model/nearest_pixel.yaml`", "yaml"))
    command = fenced("With both in the current folder", "").replace("\\\n", " ").strip()
    variables, *arguments = shlex.split(command)
    assert variables == "PYTHONPATH=." and arguments[0] == "mshnet-train"
    tiny = ["data.image_size=64", "data.batch_size=2", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false"]
    done = subprocess.run(
        [Path(sys.executable).parent / arguments[0], *arguments[1:], *tiny], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": "."}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "runs").rglob("result.json")
    result = json.loads(path.read_text())
    assert result["learnable_parameters"] == 1 and result["training"]["steps"] == 20
    (test,) = result["tests"]
    assert test["weights"] == "last" and test["episodes"] == 20 and 0 < test["miou"] < 100
    state = torch.load(path.parent / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert state["method.min_cosine"] != 0.5
