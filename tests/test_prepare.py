"""mshnet-prepare on files in the real formats: from archives, twice, killed in the middle, with damaged files."""

import re
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import SHARED
from mshnet_pl.data.protocol.split_lists import read_published
from mshnet_pl.data.sources.pascal5i import Pascal5i
from mshnet_pl.errors import DataError
from mshnet_pl.options import Subset
from voc_files import SBD_ONLY, VOC_TRAIN, VOC_VAL, Drawn, mat, palette_png, tar_of
from voc_prepared import assert_correct, installed, run
from voc_prepared import drawn as drawn
from voc_prepared import root as root

pytestmark = pytest.mark.usefixtures("own_cache")

KILLED = """
import itertools, os, signal, sys
from mshnet_pl.cli import prepare
moment, count, rename = int(sys.argv[1]), itertools.count(), os.replace
def replace(*names):
    if next(count) == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(*names)
os.replace = replace
sys.argv[1:] = sys.argv[2:]
prepare.main()
"""


def state(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(root.rglob("*"))}


def test_the_installed_command_and_a_second_run(root: Path, drawn: Drawn) -> None:
    drawn.write_archives(root)
    done = installed("data=pascal5i", f"data.root={root}", "any_archive=true")
    assert done.returncode == 0, done.stderr
    assert_correct(root, drawn)
    cats = sum(mask[0, 0] == 8 for name, mask in drawn.masks.items() if name not in VOC_VAL)
    assert re.search(rf"^cat +{cats} +987 +{cats - 987}$", done.stdout, re.M), done.stdout
    assert re.search(r"^all +10 +13,598 +-13,588$", done.stdout, re.M)
    before = state(root)
    run(root)
    assert state(root) == before


def test_what_it_makes_is_what_the_source_reads(root: Path, drawn: Drawn) -> None:
    drawn.write_archives(root)
    run(root)
    derived, listed = Pascal5i(str(root)), Pascal5i(str(root), str(root / "splits"))
    derived.check()
    listed.check()
    for subset in Subset:
        assert derived.pairs(subset) == listed.pairs(subset) != []


@pytest.mark.parametrize("writes", [35, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 5, 21, 46, 53, 57, 62))])
def test_killed_and_run_again(root: Path, drawn: Drawn, writes: int) -> None:
    drawn.write_archives(root)
    command = [sys.executable, "-c", KILLED, str(writes), "data=pascal5i", f"data.root={root}", "any_archive=true"]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert not (root / "splits" / "val" / "fold3.txt").exists() or writes > 60
    run(root)
    assert_correct(root, drawn)
    before = state(root)
    run(root)
    assert state(root) == before


def bomb() -> bytes:
    """A PNG that says it has 50,000 x 50,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_damaged_files_are_listed_and_the_others_done(root: Path, drawn: Drawn) -> None:
    strange = drawn.masks[VOC_VAL[1]].copy()
    strange[0, 0] = 37
    wrong_size = drawn.masks[SBD_ONLY[2]][:-1]
    good = {"voc": dict(drawn.voc), "sbd": dict(drawn.sbd)}
    bad = {
        f"SegmentationClass/{VOC_TRAIN[0]}.png": bomb(),  # SBD has this image as well, and is not asked
        f"SegmentationClass/{VOC_VAL[1]}.png": palette_png(strange),
        f"SegmentationClass/{VOC_VAL[2]}.png": good["voc"][f"SegmentationClass/{VOC_VAL[2]}.png"][:-60],
        f"JPEGImages/{VOC_TRAIN[1]}.jpg": good["voc"][f"JPEGImages/{VOC_TRAIN[1]}.jpg"][:500],
        f"dataset/cls/{SBD_ONLY[0]}.mat": good["sbd"][f"dataset/cls/{SBD_ONLY[0]}.mat"][:200],
        f"dataset/cls/{SBD_ONLY[1]}.mat": mat(np.full((60, 80), 255, np.uint8)),
        f"dataset/cls/{SBD_ONLY[2]}.mat": mat(wrong_size),
        f"dataset/cls/{SBD_ONLY[3]}.mat": mat(np.array("no map")),
    }
    (root / "VOCtrainval_11-May-2012.tar").write_bytes(
        tar_of({name: bad.get(name, content) for name, content in drawn.voc.items()}, "VOCdevkit/VOC2012/")
    )
    sbd = {name: bad.get(name, content) for name, content in drawn.sbd.items()}
    (root / "benchmark.tgz").write_bytes(tar_of(sbd, "benchmark_RELEASE/", "w:gz"))
    done = installed("data=pascal5i", f"data.root={root}", "any_archive=true")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "Traceback" not in done.stderr, done.stderr
    for name in bad.keys() - {f"dataset/cls/{SBD_ONLY[2]}.mat"}:
        assert done.stderr.count(str(root / name)) == 1, name
    assert re.search(rf"SegmentationClass/{VOC_TRAIN[0]}.png: .*more than 400 megapixels", done.stderr)
    assert f"SegmentationClass/{VOC_VAL[1]}.png: labels [37], but there are 0 to 20 and 255" in done.stderr
    assert f"{SBD_ONLY[1]}.mat: labels [255], but there are 0 to 20\n" in done.stderr
    assert f"{SBD_ONLY[2]}.png: 80 x 59 pixels, but its image has 80 x 60" in done.stderr
    for name in drawn.masks.keys() - {Path(name).stem for name in bad}:
        with Image.open(root / "SegmentationClassAug" / f"{name}.png") as mask:
            assert np.array_equal(np.asarray(mask), drawn.masks[name])
    lists = "".join(path.read_text() for path in (root / "splits").rglob("*.txt"))
    assert not any(name in lists for name in {Path(path).stem for path in bad})
    assert all(name in lists for name in drawn.masks.keys() - {Path(name).stem for name in bad})
    for name in bad:
        (root / name).write_bytes((good["voc"] | good["sbd"])[name])
    run(root)
    assert_correct(root, drawn)
    before = state(root)
    run(root)
    assert state(root) == before


def test_files_unpacked_by_hand_and_lost_ones(root: Path, drawn: Drawn) -> None:
    for name, content in (drawn.voc | drawn.sbd).items():
        if not name.startswith(("Annotations", "README")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
    lost = [root / "SegmentationClass" / f"{VOC_VAL[0]}.png", root / "dataset" / "cls" / f"{SBD_ONLY[0]}.mat"]
    for path in lost:
        path.rename(path.with_suffix(".away"))
    with pytest.raises(DataError, match=rf"{lost[0]}: no such file, but .*val.txt names it(.|\n)*{lost[1]}: no such file"):
        run(root)
    for path in lost:
        path.with_suffix(".away").rename(path)
    run(root)
    assert_correct(root, drawn)


def test_what_others_made_is_not_overwritten(root: Path, drawn: Drawn) -> None:
    drawn.write_archives(root)
    mask, listed = root / "SegmentationClassAug" / f"{VOC_VAL[0]}.png", root / "splits" / "trn" / "fold1.txt"
    for path in (mask, listed):
        path.parent.mkdir(parents=True)
    Image.fromarray(drawn.masks[VOC_VAL[1]]).save(mask)
    listed.write_text(f"{VOC_TRAIN[0]}__06\n")
    before = mask.read_bytes(), listed.read_bytes()
    with pytest.raises(DataError, match=rf"{mask}: differs from .*delete it(.|\n)*{listed}: another list"):
        run(root)
    assert (mask.read_bytes(), listed.read_bytes()) == before
    mask.unlink()
    listed.unlink()
    run(root)
    assert_correct(root, drawn)


def test_a_mended_source_is_converted_anew(root: Path, drawn: Drawn) -> None:
    drawn.write_archives(root)
    run(root)
    changed = drawn.masks[VOC_VAL[0]].T.reshape(60, 80).copy()
    (root / "SegmentationClass" / f"{VOC_VAL[0]}.png").write_bytes(palette_png(changed))
    run(root)
    with Image.open(root / "SegmentationClassAug" / f"{VOC_VAL[0]}.png") as mask:
        assert np.array_equal(np.asarray(mask), changed)


def test_masks_made_elsewhere_take_the_place_of_sbd(
    root: Path, drawn: Drawn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn.write_archives(root)
    run(root)
    (root / "splits").rename(tmp_path / "lists")
    for name in ("benchmark.tgz", "dataset"):
        (root / name).rename(tmp_path / name)
    run(root)
    assert_correct(root, drawn)
    for name in ("VOCtrainval_11-May-2012.tar", "SegmentationClass", "ImageSets"):
        (root / name).rename(tmp_path / name)
    with pytest.raises(DataError, match=r"PASCAL VOC 2012: no ImageSets/Segmentation/val\.txt"):
        run(root)
    run(root, tmp_path / "lists")
    assert "14 masks in SegmentationClassAug are taken as they are" in capsys.readouterr().out


def test_lists_are_compared_with_published_ones(
    root: Path, drawn: Drawn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn.write_archives(root)
    with pytest.raises(DataError, match=r"split lists (.|\n)*trn/fold0\.txt is missing(.|\n)*val/fold3\.txt is missing"):
        run(root, tmp_path / "lists")
    assert not (root / "JPEGImages").exists()  # refused before any work
    run(root)
    (root / "splits").rename(tmp_path / "lists")
    listed = tmp_path / "lists" / "trn" / "fold0.txt"
    listed.write_text("".join(f"{name}\n" for name in [*listed.read_text().split(), "2009_000001__03"]))
    capsys.readouterr()
    run(root, tmp_path / "lists")
    out = capsys.readouterr().out
    assert "trn: 1 of 11 pairs only in the published lists: 2009_000001__03\n" in out
    assert "trn: 0 of 11 pairs only in the lists made here\n" in out and "val: 0 of 4 pairs" in out


def test_a_tree_further_down_is_pointed_at(root: Path) -> None:
    (root / "VOCdevkit" / "VOC2012" / "JPEGImages").mkdir(parents=True)
    with pytest.raises(DataError, match=r"give data\.root=.*root/VOCdevkit/VOC2012"):
        run(root)


def test_a_missing_or_closed_root(root: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root=.*nowhere: no such folder; make it"):
        run(root / "nowhere")
    (root / "SegmentationClassAug").write_text("a file")
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation", "dataset/cls", "dataset/img"):
        (root / name).mkdir(parents=True)
    for name in ("train", "val"):
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").touch()
    with pytest.raises(DataError, match=r"data\.root=.*SegmentationClassAug.*once that is mended"):
        run(root)


def test_real_masks_give_nearly_the_published_pairs(root: Path) -> None:
    mini, splits = SHARED / "data" / "pascal5i_mini", SHARED / "splits" / "pascal"
    if not (mini.is_dir() and splits.is_dir()):
        pytest.skip(f"no {mini} or no {splits}")
    for name in ("JPEGImages", "SegmentationClassAug"):
        (root / name).symlink_to(mini / name)
    published = read_published(splits, 20)
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    names = {path.stem for path in (mini / "SegmentationClassAug").iterdir()}
    tested = {name for name, _ in published[Subset.VAL]} & names
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(tested))
    run(root)
    for subset, pairs in read_published(root / "splits", 20).items():
        there = {pair for pair in published[subset] if pair[0] in names}
        assert len(there - set(pairs)) < 0.01 * len(there) < len(there) / 2 < len(pairs)
        assert len(set(pairs) - there) < 0.05 * len(there)
