"""Unpacking that cannot write outside its folder, replaces nothing, and can be cut off and run again."""

import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from io import BufferedIOBase
from lzma import LZMAError
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from tqdm import tqdm

from mshnet_pl.errors import DataError
from mshnet_pl.utils.files import sync_all, whole_file

_CHUNK = 1 << 20


class _Member(NamedTuple):
    name: str
    size: int
    refusal: str | None
    """Why nothing of this kind is ever unpacked."""
    is_folder: bool
    open: Callable[[], BufferedIOBase]
    """Its content; to be read before the next member is asked for."""


def unpack(archive: Path, root: Path, prefix: str = "", wanted: Sequence[str] = ("",)) -> list[str]:
    """Unpack a tar (also compressed) or zip archive into ``root``.

    Every member is checked before anything is written: no absolute path, no ``..``, no link, no device, no place outside
    ``root`` by way of a link that is there already, no name twice, no file that is there already with another content, and
    not more than the disk has room for. A file that is there with the same content is left alone.

    Args:
        archive: the archive.
        root: where its files go.
        prefix: leading folders of the archive that are left away, as ``VOCdevkit/VOC2012``.
        wanted: beginnings of the paths (below ``prefix``) that are unpacked.

    Returns:
        The paths of all wanted files, relative to ``root``.

    Raises:
        DataError: the archive is damaged, cut off, unsafe or another one; names every member that is refused.
    """
    try:
        kept, missing = _check(archive, root, prefix, wanted)
        progress = tqdm(desc=f"unpacking {archive.name}", total=len(missing), leave=False, delay=1)
        for member in _members(archive) if missing else ():
            if member.name in missing:
                with whole_file(root / missing[member.name], sync=False) as target, member.open() as content:
                    shutil.copyfileobj(content, target, _CHUNK)
                progress.update()
        progress.close()
        sync_all()
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError, NotImplementedError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, no decompressor's
            raise
        raise DataError(f"{archive}: damaged or cut off ({error}); fetch it again and run this again") from error
    return kept


def _check(archive: Path, root: Path, prefix: str, wanted: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """All wanted paths; and for those members that are not there yet their paths."""
    kept: dict[str, int] = {}
    missing: dict[str, str] = {}
    problems: list[str] = []
    inside = _Inside(root)
    for member in tqdm(_members(archive), f"checking {archive.name}", leave=False, delay=1):
        refusal = member.refusal or _unsafe(member.name)
        path = None if refusal else _below(member.name, prefix)
        if refusal is None and path is not None and path.startswith(tuple(wanted)) and not member.is_folder:
            if path in kept:
                refusal = "is in the archive twice"
            elif (root / path).is_file():
                refusal = None if _same(root / path, member) else "is there already with another content"
            else:
                refusal = inside.refusal(root / path)
                missing[member.name] = path
            kept[path] = member.size
        if refusal:
            problems.append(f"{member.name}: {refusal}")
    problems += [f"{path}: is a folder of the archive as well" for path in _folders(kept) & kept.keys()]
    if problems:
        raise DataError.listing(
            f"{archive}: not unpacked, because of these members:", problems,
            "Take the official archive; where a file was changed on purpose, move the archive out of this folder.",
        )  # fmt: skip
    if not kept:
        names = " or ".join(f"{prefix}/{start}*".lstrip("/") for start in wanted)
        raise DataError(f"{archive}: holds no {names}; it is another archive than its name says, take the official one")
    need, free = sum(kept[path] for path in missing.values()), shutil.disk_usage(root).free
    if need > free:
        raise DataError(f"{archive}: needs {need / 1e9:.1f} GB, but {root} has {free / 1e9:.1f} GB left; make room there")
    return list(kept), missing


class _Inside:
    """Whether a new file would lie inside ``root`` once every link on its way is followed."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._known: dict[Path, str | None] = {}

    def refusal(self, path: Path) -> str | None:
        if path.is_dir():
            return "a folder of that name is in the way"
        if path.parent not in self._known:
            self._known[path.parent] = self._look_at(path.parent)
        return self._known[path.parent]

    def _look_at(self, folder: Path) -> str | None:
        if not folder.resolve().is_relative_to(self._root):
            return f"{folder} is a link that leads outside"
        blocked = [parent for parent in (folder, *folder.parents) if parent.exists() and not parent.is_dir()]
        return f"{blocked[0]} is in the way" if blocked else None


def _unsafe(name: str) -> str | None:
    if name.startswith(("/", "\\")) or PureWindowsPath(name).drive:
        return "an absolute path"
    if ".." in re.split(r"[/\\]", name):
        return "leads outside by '..'"
    return "a name with a control character" if re.search(r"[\x00-\x1f]", name) else None


def _below(name: str, prefix: str) -> str | None:
    path = PurePosixPath(name)
    return str(path.relative_to(prefix)) if path.is_relative_to(prefix) else None


def _folders(paths: dict[str, int]) -> set[str]:
    return {str(parent) for path in paths for parent in PurePosixPath(path).parents}


def _same(path: Path, member: _Member) -> bool:
    if path.stat().st_size != member.size:
        return False
    with path.open("rb") as here, member.open() as there:
        while chunk := there.read(_CHUNK):
            if here.read(len(chunk)) != chunk:
                return False
    return True


def _members(archive: Path) -> Iterator[_Member]:
    with archive.open("rb") as file:
        is_zip = archive.suffix == ".zip" or file.read(2) == b"PK"
    return _zip_members(archive) if is_zip else _tar_members(archive)


def _tar_members(archive: Path) -> Iterator[_Member]:
    with tarfile.open(archive) as tar:
        for info in tar:
            kind = "link" if info.issym() or info.islnk() else "device"
            refusal = None if info.isreg() or info.isdir() else f"a {kind} {'to ' + info.linkname if info.linkname else ''}"
            yield _Member(info.name, info.size, refusal and refusal.strip(), info.isdir(), partial(_content, tar, info))
        file = tar.fileobj
        assert file is not None
        file.seek(tar.offset)  # tarfile takes a damaged header, or the end of the file, for the end of the archive
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"no end of the archive at byte {tar.offset}")
        while file.read(_CHUNK):  # what compresses it has its checksum at the very end
            pass


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> BufferedIOBase:
    content = tar.extractfile(info)
    assert isinstance(content, BufferedIOBase)
    return content


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            mode = info.external_attr >> 16
            refusal = "a link" if stat.S_ISLNK(mode) else None
            if stat.S_IFMT(mode) and not refusal and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                refusal = "a device"
            if info.flag_bits & 1:
                refusal = "is encrypted"
            yield _Member(info.filename, info.file_size, refusal, info.is_dir(), partial(_zip_content, file, info))


def _zip_content(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> BufferedIOBase:
    content = file.open(info)
    assert isinstance(content, BufferedIOBase)
    return content
