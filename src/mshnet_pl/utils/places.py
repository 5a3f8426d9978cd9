"""Paths and names as people give them, before anything is read."""

import os
import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PureWindowsPath

from mshnet_pl.errors import ConfigError, DataError

_HALVES = re.compile("[\ud800-\udfff]")
"""What stands for bytes that are no UTF-8, and in JSON for half a character."""
_WAY_OUT = "; give another path"


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with ``~`` for the user's folder.

    Raises:
        ValueError: it is empty, or there is no such user.
    """
    if not os.fspath(path):
        raise ValueError(f"an empty name{_WAY_OUT}")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"there is no user {Path(path).parts[0]}{_WAY_OUT}") from error


def given_place(path: str | os.PathLike[str], setting: str) -> Path:
    """The place that a setting names, with ``~`` for the user's folder; there may be nothing.

    Raises:
        ConfigError: it can be no place: too long a name, links in a circle, a user whom there is not, a closed folder.
    """
    try:
        place = expanded(path)
        with suppress(FileNotFoundError, NotADirectoryError):
            place.stat()
    except (OSError, ValueError) as error:
        said = str(error.strerror if isinstance(error, OSError) else error)
        raise ConfigError(f"{setting}={path}: {said.removesuffix(_WAY_OUT)}{_WAY_OUT}") from error
    return place


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, by path.

    Raises:
        DataError: it cannot be looked into.
    """
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be looked into: {error.strerror}; give a folder that can") from error


def written_place(folder: Path, text: str) -> Path:
    """A path that a list in that folder names: as it stands there, or else with the backslashes of Windows."""
    place = folder / text
    return folder / PureWindowsPath(text).as_posix() if "\\" in text and not os.path.exists(place) else place


def whole_name(name: object) -> str:
    """A class's name as text, without what cannot be seen: spaces around it, and how accents are stored. It may be a number.

    Raises:
        ValueError: it is empty or of another type, or holds what no text in UTF-8 can.
    """
    if not isinstance(name, str | int | float) or isinstance(name, bool) or not str(name).strip():
        raise ValueError(f"the class {name!r} is no name; give a text")
    if _HALVES.search(text := str(name)):
        raise ValueError(f"the class {text!a} is no text in UTF-8; give it another name")
    return unicodedata.normalize("NFC", text.strip())


def spelt_alike(names: Iterable[str]) -> list[str]:
    """Those that differ from another one in capitals alone."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(name.casefold(), []).append(name)
    return [name for same in alike.values() if len(same) > 1 for name in same]
