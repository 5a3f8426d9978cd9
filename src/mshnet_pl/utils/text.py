"""Text files that people wrote, with whatever program: split lists, manifests."""

import codecs
import re
from pathlib import Path

from mshnet_pl.errors import DataError, one_line

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins as UTF-16's does
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks and the encodings that they announce, which take them off."""
_MAX_BYTES = 1 << 28
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")


def read_text(path: Path) -> str:
    r"""The text of a file in UTF-8, or in UTF-16 or UTF-32, without byte order marks; its lines end with ``\n``.

    Raises:
        DataError: it is missing, cannot be read, or is no text in one of these encodings; names the file and the place.
    """
    if not path.exists():
        raise DataError(f"{path} is missing; put it there, or give another path")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path} is no list: it has more than {_MAX_BYTES >> 20} MB; give the text file that was meant")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        text = content.decode(encoding_of(content))
    except UnicodeDecodeError as error:
        start = error.start + len(content) - len(error.object)  # UTF-8's mark is none of the object
        place = f"byte {start} (0x{content[start]:02x})" if start < len(content) else "its end"
        name = error.encoding.upper()
        raise DataError(f"{path} is no text in {name}: {error.reason} at {place}; save it as UTF-8") from error
    if strange := _NO_TEXT.search(text):
        line = text.count("\n", 0, strange.start()) + 1
        raise DataError(f"{path} is no text: {strange[0]!r} in line {line}; save it as plain text in UTF-8")
    return text.replace("\ufeff", "").replace("\r\n", "\n").replace("\r", "\n")


def encoding_of(start: bytes) -> str:
    """By a text's first bytes: its byte order mark says it; UTF-16 without one has zeros in Latin letters, on one side."""
    zeros = start[::2].count(0), start[1::2].count(0)
    unmarked = "utf-8" if all(zeros) or not any(zeros) else "utf-16-be" if zeros[0] else "utf-16-le"
    return next((name for mark, name in _MARKS.items() if start.startswith(mark)), unmarked)


def stored(text: object) -> str:
    r"""A text or a path as a file in UTF-8 can hold it: bytes of a name that are none, and halves of characters, as escapes.

    ``\xff`` stands for the byte, ``\ud800`` for the half.
    """
    halves = re.sub(r"[\ud800-\udc7f\udd00-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", str(text))
    return halves.encode(errors="surrogateescape").decode(errors="backslashreplace")


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a list with their numbers, without the blank ones and those that begin with ``#``.

    Raises:
        DataError: as ``read_text``.
    """
    lines = ((number, line.strip()) for number, line in enumerate(read_text(path).split("\n"), start=1))
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: no column, HTML, link, picture or new line, and nothing that steers a terminal."""
    shown = one_line(" ".join(text.split("\n")))
    return shown.replace("|", r"\|").replace("<", "&lt;").replace("](", r"]\(")
