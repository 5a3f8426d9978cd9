"""The file that conversion and export write: never unasked over another one."""

from pathlib import Path

from mshnet_pl.errors import ConfigError
from mshnet_pl.utils.files import check_writable


def card_path(path: Path) -> Path:
    """Where the model card of ``path`` lies."""
    return path.with_name(f"{path.name}.md")


def check_free(path: Path, source: Path, overwrite: bool) -> None:
    """Refuse a place where a file and its model card may not be written.

    Args:
        path: of the file, ``out=``.
        source: what is read, and never replaced.
        overwrite: whether files that are there may be replaced.

    Raises:
        ConfigError: no such folder, or something is there and is not to be overwritten.
        DataError: the folder cannot be written.
    """
    if not path.parent.is_dir():
        raise ConfigError(f"out={path}: no folder {path.parent}; make it, or choose another one")
    if path.is_dir() or path.resolve() == source.resolve():
        raise ConfigError(f"out={path}: that is {'a folder' if path.is_dir() else 'what is read'}; choose another name")
    there = [existing for existing in (path, card_path(path)) if existing.exists()]
    if there and not overwrite:
        raise ConfigError(f"{there[0]} is there already; give overwrite=true, or another out=")
    check_writable(path, path.parent)
