"""The built distributions: complete, and working from any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from conftest import ROOT


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
    assert {*files, *(f"mshnet_pl/{name}" for name in others)} <= packed
    program = (
        "import mshnet_pl, sys; from mshnet_pl.cli.train import main; print(mshnet_pl.__file__, file=sys.stderr); main()"
    )
    uncovered = {key: value for key, value in os.environ.items() if not key.startswith("COV")}  # it is a copy of the source
    done = subprocess.run(
        [sys.executable, "-c", program, "--cfg", "job"],
        cwd=tmp_path, env={**uncovered, "PYTHONPATH": str(tmp_path / "installed")}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "installed") in done.stderr and "width: 32" in done.stdout
