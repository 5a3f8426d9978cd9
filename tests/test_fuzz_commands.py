"""Random damage to what a whole command reads first: a message and exit code 2, or what the whole file gives."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import Command, Done
from mshnet_pl.data.prepare import pascal5i
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.errors import DataError
from test_damage import fuzz
from test_prepare_others import coco, write
from voc_files import Drawn

SLOW = pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])


def refuses(done: Done) -> None:
    """Raises the message of a command that ended with one; any other end than that and success is an error of the test.

    Raises:
        DataError: with the message.
    """
    assert done.code in (0, 2) and "Traceback" not in done.out + done.err, done.err
    if done.code:
        assert "error: " in done.err, done.err
        raise DataError(done.err)


def fuzz_against_whole(paths: list[Path], tries: int, run: Callable[[], Done], made: Callable[[], Any]) -> None:
    """Run a command on damaged files; whenever it ends well it has ``made`` what it makes of the whole ones."""
    refuses(run())
    expected = made()
    assert expected

    def again() -> None:
        refuses(run())
        assert made() == expected

    counts = fuzz(paths, tries, again)
    assert counts["refused"] > 0.7 * tries


@pytest.mark.parametrize("tries", [6, SLOW])
def test_a_checkpoint_that_predicts(command: Command, checkpoint: Path, tmp_path: Path, tries: int) -> None:
    source, bad, out = Synthetic(size=80), tmp_path / "bad.ckpt", tmp_path / "out"
    shutil.copy(checkpoint, bad)
    source.image("val-00-0001").save(tmp_path / "query.png")
    for folder in ("images", "masks"):
        (tmp_path / "support" / folder).mkdir(parents=True)
    source.image("val-00-0000").save(tmp_path / "support/images/a.png")
    Image.fromarray(255 * source.mask("val-00-0000", [0])).save(tmp_path / "support/masks/a.png")

    def run() -> Done:
        shutil.rmtree(out, ignore_errors=True)
        return command("mshnet-predict", f"ckpt={bad}", "support=support", "query=query.png", "out=out")

    def made() -> tuple[bytes, Any]:
        return (out / "query_mask.png").read_bytes(), json.loads((out / "predictions.json").read_text())["predictions"]

    fuzz_against_whole([bad], tries, run, made)


def test_a_checkpoint_that_is_tested(command: Command, other: Path, tmp_path: Path, tries: int = 3) -> None:
    bad, runs = tmp_path / "bad.ckpt", tmp_path / "runs"
    shutil.copy(other, bad)

    def run() -> Done:
        shutil.rmtree(runs, ignore_errors=True)
        return command("mshnet-test", f"ckpt={bad}", "threads=1")

    def made() -> tuple[str, Any]:
        (counts,), (result,) = runs.rglob("episodes_*.csv"), runs.rglob("result.json")
        (test,) = json.loads(result.read_text())["tests"]
        return counts.read_text(), {key: value for key, value in test.items() if key not in ("seconds", "weights")}

    fuzz_against_whole([bad], tries, run, made)


@pytest.mark.parametrize("any_archive", [False, True])
@pytest.mark.parametrize("tries", [4, SLOW])
def test_archives_of_pascal(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: int, any_archive: bool
) -> None:
    """Held to their published MD5; another .tgz to its own checksum, while a .tar has none for what its files hold."""
    Drawn().write_archives(tmp_path)
    archives = [tmp_path / "VOCtrainval_11-May-2012.tar", tmp_path / "benchmark.tgz"]
    for name, path in zip(("VOC", "SBD"), archives, strict=True):
        md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        monkeypatch.setattr(pascal5i, name, getattr(pascal5i, name)._replace(md5=md5))
    root = tmp_path / "root"

    def run() -> Done:
        fresh(root, archives)
        return command("mshnet-prepare", "data=pascal5i", f"data.root={root}", f"any_archive={any_archive}")

    fuzz_against_whole(archives[any_archive:], tries, run, lambda: contents(root))


@pytest.mark.parametrize("tries", [4, SLOW])
def test_archives_of_coco(command: Command, tmp_path: Path, tries: int) -> None:
    """Without a published MD5: .zip has a checksum for every file."""
    write(tmp_path, coco(2014))
    root, archives = tmp_path / "root", sorted(tmp_path.glob("*.zip"))

    def run() -> Done:
        fresh(root, archives)
        return command("mshnet-prepare", "data=coco20i", f"data.root={root}")

    fuzz_against_whole(archives, tries, run, lambda: contents(root))


def fresh(root: Path, archives: list[Path]) -> None:
    """A folder with nothing but these archives."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for path in archives:
        (root / path.name).symlink_to(path)


def contents(root: Path) -> dict[str, bytes]:
    """Of a prepared folder, but for the archives and what was noted of them."""
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    return {str(path.relative_to(root)): path.read_bytes() for path in files if ".mshnet-prepare" not in path.parts}
