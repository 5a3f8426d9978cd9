"""Files that are there whole or not at all, whatever ends the process or fills the disk."""

import errno
import os
from pathlib import Path

from mshnet_pl.errors import DataError

_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_whole(path: Path, content: bytes, before: Path | None = None) -> None:
    """Write a file under another name, bring it to the disk, then give it its name.

    Args:
        path: its name; a file of that name is replaced at once, or stays as it is. One process writes it at a time.
        content: all of it.
        before: takes the file that ``path`` is until now, if there is one.

    Raises:
        DataError: the disk is full, or the folder cannot be written; nothing has changed then.
    """
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if before is not None and path.exists():
            path.replace(before)
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}; nothing that was there has changed: make room, or mend "
            "that, and give the same command again"
        ) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def if_full(error: OSError) -> DataError:
    """A message in place of an error that says that a disk is full.

    Raises:
        OSError: it says something else.
    """
    if error.errno not in _FULL:
        raise error
    where = f"{error.filename}: " if error.filename else ""
    return DataError(f"{where}{error.strerror}; make room, and give the same command again: what was finished is kept")


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
