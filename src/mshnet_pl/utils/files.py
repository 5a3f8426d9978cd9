"""Files that are there whole or not at all, whatever ends the process or fills the disk."""

import errno
import logging
import os
import platform
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from mshnet_pl.errors import DataError

log = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)
_NO_PLACE = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR)
_BEGUN = re.compile(r"\.mshnet-(\w+)-(\d{1,9})-\w{8}\.part")
"""What ``whole_path`` writes to: machine and process are in its name."""
_DAY = 24 * 3600


def write_whole(path: Path, content: bytes, before: Path | None = None) -> None:
    """Write a file under another name, bring it to the disk, then give it its name.

    Args:
        path: its name; a file of that name is replaced at once, or stays as it is.
        content: all of it.
        before: takes the file that ``path`` is until now, if there is one.

    Raises:
        DataError: the disk is full, or the folder cannot be written; nothing has changed then.
    """
    with whole_file(path, before) as file:
        file.write(content)


@contextmanager
def whole_file(path: Path, before: Path | None = None, sync: bool = True) -> Iterator[BinaryIO]:
    """A file to write to piece by piece, which gets its name at the end of the ``with``; see ``whole_path``."""
    with whole_path(path, before, sync) as partial, partial.open("wb") as file:
        yield file


@contextmanager
def whole_path(path: Path, before: Path | None = None, sync: bool = True) -> Iterator[Path]:
    """A name in the same folder that no other call has, for what writes a file or a folder by its name.

    At the end of the ``with`` it becomes ``path``; after an error nothing of it is left, and what killed processes left in
    the folder is removed. Any number of processes may write ``path`` at once: that of the last one stays.

    Args:
        path: the final name; a file of that name is replaced at once, or stays as it is.
        before: as ``write_whole``'s.
        sync: bring it to the disk first. For the many files of a data set that is slow: write them without, and call
            ``sync_all`` at their end.

    Raises:
        DataError: as ``write_whole``.
    """
    partial = path.with_name(f".mshnet-{_machine()}-{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent.absolute())
        yield partial
        for written in (*partial.rglob("*"), partial) if sync else ():
            _sync(written)
        if before is not None and path.exists():
            path.replace(before)
        partial.replace(path)
        if sync:
            _sync(path.parent)
    except OSError as error:
        if error.errno is None:  # not the system's: a damaged archive or image that was being copied
            raise
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}; if it was there before, it is as it was: make room, "
            "or mend that, and give the same command again"
        ) from error
    finally:
        _remove(partial)


def find_files(folder: Path, name: str) -> Iterator[Path]:
    """The files of that name in a folder and below it, behind symbolic links too, by their real paths, each once, sorted.

    A folder below it that cannot be read is named in the log.
    """
    found: set[Path] = set()
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=_unreadable, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # by another link, or in a circle
            folders.clear()
            continue
        seen.add(real)
        if name in names:
            found.add(Path(place, name).resolve())
    yield from sorted(found)


def _unreadable(error: OSError) -> None:
    if error.errno != errno.ENOENT:
        log.warning("%s is left out: %s", error.filename, error.strerror)


def sync_all() -> None:
    """Bring everything to the disk that was written without ``sync``."""
    if hasattr(os, "sync"):
        os.sync()


def if_unusable(error: OSError) -> DataError:
    """A message in place of an error that says that a disk is full, or that a path may not or cannot be used.

    Raises:
        OSError: it says something else.
    """
    if error.errno not in (*_FULL, *_REFUSED, *_NO_PLACE):
        raise error
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in _NO_PLACE:
        return DataError(f"{where}{error.strerror}; give another path")
    if error.errno in _REFUSED:
        return DataError(f"{where}{error.strerror}; give another folder, or yourself the right to it")
    return DataError(f"{where}{error.strerror}; make room, and give the same command again: what was finished is kept")


def _sync(path: Path) -> None:
    """Bring a file or a folder's list of names to the disk."""
    if path.is_dir() and os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    with suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@cache  # once a process and folder
def _remove_leftovers(folder: Path) -> None:
    """Remove what ``whole_path`` had begun in this folder, in processes that were killed meanwhile."""
    for partial in folder.glob(".mshnet-*.part"):
        if begun := _BEGUN.fullmatch(partial.name):
            with suppress(OSError):  # another process was first
                ended = begun[1] == _machine() and not _is_alive(int(begun[2]))
                old = time.time() - partial.stat().st_mtime > _DAY  # another machine's, or the process id has a new owner
                if ended or old:
                    _remove(partial)


@cache
def _machine() -> str:
    """What has process ids of its own: this machine, or a container on it."""
    try:
        space = str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        space = ""
    return re.sub(r"\W", "_", platform.node(), flags=re.ASCII)[:40] + space


def _is_alive(process: int) -> bool:
    if os.name != "posix":  # elsewhere asking would end it
        return True
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno != errno.ESRCH  # other errors: it is somebody else's
    return True


def check_writable(out: Path, folder: Path) -> None:
    """Refuse a result's place before the work for it is done.

    Args:
        out: as a message calls it.
        folder: that is there, and in which it would be made.

    Raises:
        DataError: nothing can be written there.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(f"out={out} cannot be written: {error.strerror or error}; give another folder") from error
