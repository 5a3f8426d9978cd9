"""``mshnet-prepare`` on drawn archives of VOC 2012 and SBD, and what must lie there then."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mshnet_pl.data.prepare.prepare import prepare
from voc_files import SBD_ONLY, VOC_TRAIN, VOC_VAL, Drawn


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return Drawn()


def run(root: Path, splits_dir: Path | None = None, download: bool = False) -> None:
    prepare("pascal5i", root, splits_dir, download, any_archive=True)


def installed(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("mshnet-prepare")
    return subprocess.run([command, *arguments], capture_output=True, text=True)


def assert_correct(root: Path, drawn: Drawn, without: tuple[str, ...] = ()) -> None:
    """Every mask pixel by pixel, every list line by line, and nothing half-written."""
    names = drawn.masks.keys() - {*without}
    assert {path.stem for path in (root / "SegmentationClassAug").iterdir()} == names
    for name in names:
        with Image.open(root / "SegmentationClassAug" / f"{name}.png") as mask:
            assert mask.mode == "L"
            assert np.array_equal(np.asarray(mask), drawn.masks[name]), name
        assert (root / "JPEGImages" / f"{name}.jpg").is_file()
    for subset, listed in (("trn", [*VOC_TRAIN, *SBD_ONLY]), ("val", VOC_VAL)):
        for fold in range(4):
            lines = (root / "splits" / subset / f"fold{fold}.txt").read_text().split()
            assert sorted(lines) == drawn.lines([name for name in listed if name in names], fold)
    assert not list(root.rglob("*.part")) and not (root / "Annotations").exists() and not (root / "README").exists()
