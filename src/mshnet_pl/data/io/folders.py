"""Which files of a folder are images, and why the others are not used."""

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from mshnet_pl.data.io.images import EXTENSIONS, NO_FORMAT, is_image

_SYSTEM = ("thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r", "__macosx")
"""What operating systems put beside images, in lower case; what is hidden, such as ``._NAME`` and ``.DS_Store``, is too."""
_COMPANIONS = frozenset(
    ".json .txt .xml .csv .tsv .md .yaml .yml .html .log .tfw .jgw .pgw .wld .prj .ovr .aux .py .sh .pdf .zip".split()
)
"""Endings of what is no image and often lies beside some."""

_MAX_NAMES = 20
"""Of a line; predictions.json has all."""


class Listing(NamedTuple):
    """Images by path, which can be iterated again, and the other files with the reason why they are passed over."""

    images: Iterable[Path]
    passed_over: dict[Path, str]


def list_images(paths: Iterable[Path]) -> Listing:
    """Sort files into images and others; hidden files and those of operating systems are neither.

    An image has an extension of a format that is read, or none or a number as extension and such content.
    """
    images: list[Path] = []
    listing = Listing(images, {})
    for path in sorted(paths):
        if not is_system(path):
            reason = _reason(path)
            if reason:
                listing.passed_over[path] = reason
            else:
                images.append(path)
    return listing


def passed_over_lines(passed_over: Mapping[Path, str]) -> list[str]:
    """A line for every reason and folder, with the files' names."""
    groups: dict[tuple[str, Path], list[str]] = {}
    for path, reason in passed_over.items():
        groups.setdefault((reason, path.parent), []).append(path.name)
    lines = []
    for (reason, folder), names in groups.items():
        more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        lines.append(f"{folder}: {len(names)} passed over, {', '.join(names[:_MAX_NAMES])}{more}: {reason}")
    return lines


def plain(name: str) -> str:
    """A name without what systems change in it: macOS writes letters with accents as two characters, others ignore case."""
    return unicodedata.normalize("NFC", name).casefold()


def is_system(path: Path) -> bool:
    """Whether a file is hidden, or one that an operating system made."""
    return path.name.startswith(".") or path.name.lower() in _SYSTEM


def visible(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder that match a pattern, by path, without those that ``is_system`` names."""
    return sorted(path for path in folder.glob(pattern) if not is_system(path))


def _reason(path: Path) -> str:
    """Why a file is no image; empty if it is one."""
    suffix = path.suffix.lower()
    if path.is_dir():
        return "a folder, which is not looked into"
    if not path.is_file():
        return "a link that leads nowhere, or no file"
    if suffix in EXTENSIONS or ((suffix in ("", ".") or suffix[1:].isdigit()) and is_image(path)):
        return ""
    return "no image" if suffix in _COMPANIONS else NO_FORMAT
