"""The built distributions: complete, and working from any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from conftest import ROOT
from mshnet_pl.app import example


def test_a_wheel_from_the_source_distribution_works(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", ROOT]
    built = subprocess.run(build, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert "would be ignored" not in built.stdout + built.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    files = [f"mshnet_pl/conf/{p.relative_to(ROOT / 'conf')}" for p in (ROOT / "conf").rglob("*.yaml")]
    files += [f"mshnet_pl/{p.relative_to(ROOT / 'src' / 'mshnet_pl')}" for p in (ROOT / "src").rglob("*.py")]
    others = {"py.typed", "reference/published.json", "report/page.html.j2", "app/page.css"}
    others |= {f"pretrained/training-free/{name}" for name in ("config.json", "model.safetensors", "README.md")}
    assert {*files, *(f"mshnet_pl/{name}" for name in others)} <= packed

    def installed(command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        program = f"import mshnet_pl, sys; from mshnet_pl.cli.{command} import main; print(mshnet_pl.__file__); main()"
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert str(tmp_path / "installed") in done.stdout
        return done

    assert "width: 32" in installed("train", "--cfg", "job").stdout
    coins = example.photo()
    for folder, image in zip(("images", "masks"), example.one_coin(), strict=True):
        (tmp_path / "support" / folder).mkdir(parents=True)
        Image.fromarray(np.asarray(image)).save(tmp_path / "support" / folder / "coin.png")
    coins.save(tmp_path / "coins.png")
    installed("predict", "support=support", "query=coins.png", "out=result", "device=cpu")
    found = np.asarray(Image.open(tmp_path / "result" / "coins_mask.png")) > 0
    assert found.shape == (303, 384) and 0.1 < found.mean() < 0.5
