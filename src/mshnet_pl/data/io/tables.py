"""Tables as spreadsheets write them: CSV with whatever between its cells."""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, zip_longest
from typing import TextIO

_SEPARATORS = ",;\t|"
_EXCELS_LINE = re.compile(r"sep=.\s*")
"""Before the header."""


def read_rows(
    opened: Callable[[], TextIO], needed: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV, each with the number of its last line, and its cells by the column's name in small letters.

    Args:
        opened: opens it anew, with ``newline=""``.
        needed: names of columns; the separator is the one by which the header has each of them once.
        optional: names that the header has once at most.

    Raises:
        ValueError: the header lacks some.
        csv.Error: a row is no CSV.
    """
    for separator in _SEPARATORS:
        with opened() as file:
            first = file.readline()
            skipped = bool(_EXCELS_LINE.fullmatch(first))
            lines = file if skipped else chain([first], file)
            reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
            names: list[str] = []
            with suppress(csv.Error):
                names = [name.strip().lower() for name in next((row for row in reader if any(row)), [])]
            if all(names.count(name) == 1 for name in needed) and all(names.count(name) <= 1 for name in optional):
                yield from ((reader.line_num + skipped, _cells(names, row)) for row in reader if any(map(str.strip, row)))
                return
    with opened() as file:
        header = next((line.strip() for line in file if line.strip() and not _EXCELS_LINE.fullmatch(line)), "")
    raise ValueError(
        f"the first line is {header[:200]!r}, but it must name the columns {', '.join(needed)}, each once, with commas, "
        "semicolons or tabs between them"
    )


def _cells(names: list[str], row: list[str]) -> dict[str, str]:
    """The cells of a row by the column's name; those beyond the header have none."""
    cells = [(name, cell.strip()) for name, cell in zip_longest(names, row, fillvalue="")]
    nameless = " ".join(cell for name, cell in cells if cell and not name)
    return {name: cell for name, cell in cells if name} | ({"": nameless} if nameless else {})
