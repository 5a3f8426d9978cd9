"""Archives that mshnet-prepare fetches, waits for or refuses: missing, cut off, without a part, of another MD5."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Command
from local_server import serve
from mshnet_pl.data.prepare import pascal5i as prepare_voc
from mshnet_pl.errors import DataError
from voc_files import Drawn, tar_of
from voc_prepared import assert_correct, installed, run
from voc_prepared import drawn as drawn
from voc_prepared import root as root

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("archive", ["VOCtrainval_11-May-2012.tar", "benchmark.tgz"])
def test_a_cut_off_archive(root: Path, drawn: Drawn, archive: str) -> None:
    drawn.write_archives(root)
    whole = (root / archive).read_bytes()
    (root / archive).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=f"{archive}: damaged or cut off"):
        run(root)
    assert (root / "dataset").exists() == (archive != "benchmark.tgz")
    assert (root / "JPEGImages").exists() == (archive == "benchmark.tgz")
    (root / archive).write_bytes(whole)
    run(root)
    assert_correct(root, drawn)


def test_an_archive_that_lacks_a_part(root: Path, drawn: Drawn) -> None:
    drawn.write_archives(root)
    files = {name: content for name, content in drawn.voc.items() if not name.endswith("val.txt")}
    (root / "VOCtrainval_11-May-2012.tar").write_bytes(tar_of(files, "VOCdevkit/VOC2012/"))
    with pytest.raises(DataError, match=r"2012\.tar: holds no ImageSets/Segmentation/val\.txt; take the official archive"):
        run(root)


def test_missing_pieces_are_all_named(root: Path) -> None:
    done = installed("data=pascal5i", f"data.root={root}", "any_archive=true")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: data.root={root}: archives are missing:\n"
        "  PASCAL VOC 2012: no JPEGImages, no SegmentationClass, no ImageSets/Segmentation/train.txt, "
        "no ImageSets/Segmentation/val.txt\n"
        "      fetch http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar (about 1.9 GB) and put it "
        f"at {root}/VOCtrainval_11-May-2012.tar\n"
        "  SBD: no dataset/cls, no dataset/img\n"
        "      fetch https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz "
        f"(about 1.4 GB) and put it at {root}/benchmark.tgz\n"
        "Run this again then; or run it with download=true now, which fetches them.\n"
    )
    assert list(root.iterdir()) == []


def test_an_archive_is_held_to_its_published_md5(
    command: Command, root: Path, drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the MD5 tells a flipped bit in a plain ``.tar``."""
    drawn.write_archives(root)
    for constant in ("VOC", "SBD"):
        known = getattr(prepare_voc, constant)
        digest = hashlib.md5(known.path(root).read_bytes()).hexdigest()
        monkeypatch.setattr(prepare_voc, constant, known._replace(md5=digest))
    voc = root / "VOCtrainval_11-May-2012.tar"
    whole = voc.read_bytes()
    voc.write_bytes(bytes([*whole[:1400], whole[1400] ^ 1, *whole[1401:]]))
    done = command("mshnet-prepare", "data=pascal5i", f"data.root={root}")
    assert done.code == 2 and re.search(r"2012\.tar: its MD5 is \w{32}, the published one \w{32}: damaged", done.err), (
        done.err
    )
    assert not (root / "JPEGImages").exists()
    voc.write_bytes(whole)
    assert command("mshnet-prepare", "data=pascal5i", f"data.root={root}").code == 0
    assert_correct(root, drawn)


def test_missing_pieces_are_fetched(root: Path, drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = root / "made" / "as_well"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    drawn.write_archives(tmp_path)
    files = {name: (tmp_path / name).read_bytes() for name in ("VOCtrainval_11-May-2012.tar", "benchmark.tgz")}
    with serve(files) as server:
        for constant, name in (("VOC", "VOCtrainval_11-May-2012.tar"), ("SBD", "benchmark.tgz")):
            known = getattr(prepare_voc, constant)
            monkeypatch.setattr(prepare_voc, constant, known._replace(address=f"{server.address}/{name}", md5=None))
        server.most = len(files["benchmark.tgz"]) - 1000
        while True:
            try:
                run(root, download=True)
                break
            except DataError as error:
                assert "connection was lost" in str(error)
    assert len(server.asked) > 2
    assert_correct(root, drawn)


ELSEWHERE = """
import sys
from mshnet_pl.cli import prepare
from mshnet_pl.data.prepare import pascal5i
server, sys.argv[1:] = sys.argv[1], sys.argv[2:]
for name in ("VOC", "SBD"):
    archive = getattr(pascal5i, name)
    address = f"{server}/{archive.address.rpartition('/')[2]}"
    setattr(pascal5i, name, archive._replace(address=address, md5=None))
prepare.main()
"""


def test_two_at_once_fetch_every_archive_once(
    root: Path, drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    drawn.write_archives(tmp_path)
    files = {name: (tmp_path / name).read_bytes() for name in ("VOCtrainval_11-May-2012.tar", "benchmark.tgz")}
    (root / "benchmark.tgz.part").write_bytes(files["benchmark.tgz"][:1000])
    with serve(files) as server:
        server.pause = 3
        command = [sys.executable, "-c", ELSEWHERE, server.address, "data=pascal5i", f"data.root={root}", "download=true"]
        processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert server.asked == [None, "bytes=1000-"]
    assert_correct(root, drawn)
