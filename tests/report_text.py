"""Rows of what ``mshnet-report`` prints."""

import csv


def lines(text: str, *words: str) -> list[list[str]]:
    """Cells of the Markdown rows that hold all of the words."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [row for row in rows if all(any(word == cell for cell in row) for word in words)]


def records(text: str, **fields: str) -> list[dict[str, str]]:
    found = list(csv.DictReader(text.splitlines()))
    return [record for record in found if all(record[name] == value for name, value in fields.items())]
