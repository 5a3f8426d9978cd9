"""Tables as a terminal shows them, as wide as it is."""

import re
import sys

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table as Grid

from mshnet_pl.errors import one_line
from mshnet_pl.report import formats
from mshnet_pl.report.formats import Table

_INTERVAL = re.compile(r" \[([\d.-]+), ([\d.-]+)\]")
_WORDS = (17, 13, 10, 7, 5, 3)
"""How many letters of a word stay together, the first that a terminal has room for."""


def shown(table: Table) -> str:
    """The table for standard output: for the terminal if it is one, else as Markdown."""
    return text(table) if sys.stdout.isatty() else formats.markdown(table)


def text(table: Table, width: int | None = None) -> str:
    """A table with its notes below, for a terminal of ``width`` columns, by default this one.

    A backbone that all lines share stands in the title, and intervals below their values.
    """
    console = Console(width=width)
    head, *lines = [[one_line(cell) for cell in line] for line in formats.cells(table)]
    title = one_line(table.title)
    if head[0] == "backbone" and len(shared := {line[0] for line in lines if line[0]}) == 1:
        title = ", ".join(filter(None, (title, *shared)))
        head, lines = head[1:], [line[1:] for line in lines]
    free = console.options.update(width=10_000)
    for word in _WORDS:
        grid = _grid(head, lines, len(table.folds) + 3, word)
        if console.measure(grid, options=free).minimum <= console.width:
            break
    grid.title, grid.title_justify, grid.title_style = escape(title) or None, "left", "bold"
    with console.capture() as captured:
        console.print(grid)
        for note in table.notes:
            console.print(Padding(escape(f"- {one_line(note)}"), 0), highlight=False)
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())


def _grid(head: list[str], lines: list[list[str]], numbers: int, word: int) -> Grid:
    """The cells, of which the last ``numbers`` columns are not broken."""
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for place, (name, *column) in enumerate(zip(head, *lines, strict=True), start=numbers - len(head)):
        if place >= 0:
            grid.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
        else:
            longest = max(len(part) for cell in (name, *column) for part in cell.split() or [""])
            grid.add_column(name, min_width=min(longest, word), overflow="fold")
    for line in lines:
        grid.add_row(*(escape(_INTERVAL.sub(r"\n\1..\2", cell)) for cell in line))
    return grid
