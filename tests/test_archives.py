"""Archives that must not be able to do harm."""

import io
import os
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from damage import damaged
from mshnet_pl.data.prepare.archives import unpack
from mshnet_pl.errors import DataError
from voc_files import tar_of

GOOD = {"top/a/one.txt": b"one", "top/a/two.txt": b"two" * 5000, "top/b/three.txt": b"three"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    return tmp_path / "root"


def write_zip(path: Path, files: dict[str, bytes], modes: dict[str, int] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = ((modes or {}).get(name, 0o100644)) << 16
            file.writestr(info, content)
    return path


def write_tar(path: Path, files: dict[str, bytes], *members: tarfile.TarInfo) -> Path:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for member in members:
            tar.addfile(member)
    path.write_bytes(stream.getvalue())
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("kind", ["tar", "tgz", "zip"])
def test_unpacks_what_is_wanted_and_only_once(root: Path, kind: str) -> None:
    archive = root.parent / f"good.{kind}"
    if kind == "zip":
        write_zip(archive, GOOD)
    else:
        archive.write_bytes(tar_of(GOOD, mode="w:gz" if kind == "tgz" else "w"))
    assert sorted(unpack(archive, root, "top", ["a/"])) == ["a/one.txt", "a/two.txt"]
    assert everything(root) == {"a": None, "a/one.txt": b"one", "a/two.txt": b"two" * 5000}
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    unpack(archive, root, "top", ["a/"])
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "absolute": (lambda p: write_tar(p, {**GOOD, "/tmp/mshnet-evil": b"x"}), "/tmp/mshnet-evil: an absolute path"),
    "dots": (lambda p: write_tar(p, {**GOOD, "top/../../outside/x": b"x"}), r"outside/x: leads outside by '\.\.'"),
    "backslashes": (lambda p: write_tar(p, {**GOOD, "top\\..\\..\\x": b"x"}), r"leads outside by '\.\.'"),
    "drive": (lambda p: write_tar(p, {**GOOD, "C:/x": b"x"}), "C:/x: an absolute path"),
    "symlink": (lambda p: write_tar(p, GOOD, special("top/l", tarfile.SYMTYPE, "../../outside")), r"top/l: a link to \.\./"),
    "hardlink": (lambda p: write_tar(p, GOOD, special("top/l", tarfile.LNKTYPE, "/etc/passwd")), "a link to /etc/passwd"),
    "device": (lambda p: write_tar(p, GOOD, special("top/null", tarfile.CHRTYPE)), "top/null: a device"),
    "pipe": (lambda p: write_tar(p, GOOD, special("top/pipe", tarfile.FIFOTYPE)), "top/pipe: a device"),
    "twice": (lambda p: write_tar(p, {**GOOD, "./top/a/one.txt": b"x"}), "one.txt: is in the archive twice"),
    "file and folder": (lambda p: write_tar(p, {**GOOD, "top/a": b"x"}), "a: is a folder of the archive as well"),
    "zip absolute": (lambda p: write_zip(p, {**GOOD, "/tmp/mshnet-evil": b"x"}), "/tmp/mshnet-evil: an absolute path"),
    "zip dots": (lambda p: write_zip(p, {**GOOD, "top/../../outside/x": b"x"}), r"leads outside by '\.\.'"),
    "zip link": (lambda p: write_zip(p, {**GOOD, "top/l": b"../../outside"}, {"top/l": 0o120777}), "top/l: a link"),
    "zip device": (lambda p: write_zip(p, {**GOOD, "top/d": b""}, {"top/d": 0o020644}), "top/d: a device"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_write_nothing(root: Path, name: str) -> None:
    write, message = HOSTILE[name]
    archive = write(root.parent / "hostile")
    with pytest.raises(DataError, match=f"not unpacked(.|\n)*{message}"):
        unpack(archive, root, "top")
    assert everything(root) == {} and everything(root.parent / "outside") == {}
    assert not Path("/tmp/mshnet-evil").exists()


def test_a_link_that_is_there_already_leads_nowhere(root: Path) -> None:
    (root / "a").symlink_to(root.parent / "outside")
    with pytest.raises(DataError, match="a is a link that leads outside"):
        unpack(write_tar(root.parent / "x.tar", GOOD), root, "top")
    assert everything(root.parent / "outside") == {} and not (root / "b").exists()


@pytest.mark.parametrize("other", [b"two" * 4999 + b"TWO", b"2"])
def test_other_files_are_not_replaced(root: Path, other: bytes) -> None:
    (root / "a").mkdir()
    (root / "a" / "two.txt").write_bytes(other)
    with pytest.raises(DataError, match=r"top/a/two\.txt: is there already with another content"):
        unpack(write_tar(root.parent / "x.tar", GOOD), root, "top")
    assert everything(root) == {"a": None, "a/two.txt": other}


@pytest.mark.parametrize("taken", ["a", "a/one.txt/x"])
def test_what_is_in_the_way_is_named(root: Path, taken: str) -> None:
    (root / taken).parent.mkdir(parents=True, exist_ok=True)
    (root / taken).write_bytes(b"x")
    with pytest.raises(DataError, match="in the way"):
        unpack(write_tar(root.parent / "x.tar", GOOD), root, "top")
    assert not (root / "b").exists()


@pytest.mark.parametrize("kind", ["tar", "tgz", "zip"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_cut_off_archive_writes_nothing(root: Path, kind: str, keep: float) -> None:
    archive = root.parent / f"cut.{kind}"
    files = {f"top/a/{i}": os.urandom(4000) for i in range(10)}
    if kind == "zip":
        write_zip(archive, files)
    else:
        archive.write_bytes(tar_of(files, mode="w:gz" if kind == "tgz" else "w"))
    archive.write_bytes(archive.read_bytes()[: int(keep * 10 * 4000)])
    with pytest.raises(DataError, match=rf"cut.{kind}: damaged or cut off(.|\n)*fetch it again"):
        unpack(archive, root, "top")
    assert everything(root) == {}


def test_a_tar_cut_off_between_members_is_noticed(root: Path) -> None:
    whole = write_tar(root.parent / "x.tar", {"top/a": bytes(512), "top/b": bytes(512)}).read_bytes()
    for end in (1024, 2048):
        (root.parent / "x.tar").write_bytes(whole[:end])
        with pytest.raises(DataError, match="no end of the archive"):
            unpack(root.parent / "x.tar", root, "top")
    damaged = bytearray(whole)
    damaged[1024 + 150] ^= 1  # the second header's checksum
    (root.parent / "x.tar").write_bytes(damaged)
    with pytest.raises(DataError, match="no end of the archive"):
        unpack(root.parent / "x.tar", root, "top")


def test_a_damaged_zip_member_is_noticed(root: Path) -> None:
    archive = root.parent / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("top/a", b"plain content")
    archive.write_bytes(archive.read_bytes().replace(b"plain content", b"pla1n content"))
    with pytest.raises(DataError, match="damaged or cut off"):
        unpack(archive, root, "top")
    assert everything(root) == {}


def test_another_archive_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match=r"holds no other/a\* or other/b\*"):
        unpack(write_tar(root.parent / "x.tar", GOOD), root, "other", ["a", "b"])


def test_a_full_disk_is_foreseen(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(DataError, match=r"needs 0.0 GB, but .* make room"):
        unpack(write_tar(root.parent / "x.tar", GOOD), root, "top")
    assert everything(root) == {}


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("tries", [20, pytest.param(300, marks=pytest.mark.slow)])
def test_flips_and_cuts_of_compressed_archives(root: Path, mode: str, tries: int) -> None:
    """What is compressed has a checksum: nothing is written of a damaged archive, or what it holds is right."""
    rng = random.Random(0)
    noise = {f"top/{number}": rng.randbytes(3000) for number in range(5)}
    whole = tar_of({**GOOD, **noise}, mode=f"w:{mode}")
    files = {name.removeprefix("top/"): content for name, content in {**GOOD, **noise}.items()}
    refused = 0
    for number in range(tries):
        archive, target = root.parent / f"{number}.tar.{mode}", root / str(number)
        archive.write_bytes(damaged(whole, rng))
        target.mkdir()
        try:
            unpack(archive, target, "top")
        except DataError:
            refused += 1
            assert everything(target) == {}
        else:
            assert {name: content for name, content in everything(target).items() if content is not None} == files
    assert refused > tries * 0.9
