"""Tables as a terminal shows them, as wide as it is."""

import sys

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table as Grid

from mshnet_pl.report import formats
from mshnet_pl.report.formats import Table


def shown(table: Table) -> str:
    """The table for standard output: for the terminal if it is one, else as Markdown."""
    return text(table) if sys.stdout.isatty() else formats.markdown(table)


def text(table: Table, width: int | None = None) -> str:
    """A table with its notes below, for a terminal of ``width`` columns, by default this one.

    A backbone that all lines share stands in the title, and intervals below their values.
    """
    console = Console(width=width)
    head, *lines = formats.cells(table)
    title = table.title
    if head[0] == "backbone" and len(shared := {line[0] for line in lines if line[0]}) == 1:
        title = ", ".join(filter(None, (title, *shared)))
        head, lines = head[1:], [line[1:] for line in lines]
    grid = Grid(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    grid.title, grid.title_justify, grid.title_style = escape(title) or None, "left", "bold"
    numbers = len(table.folds) + 3
    for place, name in enumerate(head, start=numbers - len(head)):
        right = place >= 0
        grid.add_column(name.replace(" ", "\n"), justify="right" if right else "left", no_wrap=right, overflow="fold")
    for line in lines:
        grid.add_row(*(escape(cell.replace(" [", "\n[").replace(", ", "-") if "[" in cell else cell) for cell in line))
    with console.capture() as captured:
        console.print(grid)
        for note in table.notes:
            console.print(Padding(escape(f"- {note}"), 0), highlight=False)
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())
