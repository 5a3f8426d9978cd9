"""The tables of ``docs/formats.md``, and the picture and mask that are tried as they say."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT

SIZE = (40, 30)


def tables() -> dict[str, list[list[str]]]:
    """The tables of the page by their heading and number, without the line below the header."""
    found: dict[str, list[list[str]]] = {}
    heading, before = "", ""
    for line in (ROOT / "docs" / "formats.md").read_text().splitlines():
        if line.startswith("## "):
            heading = line[3:]
        if line.startswith("|") and not line.startswith("|---"):
            key = heading if before.startswith("|") else f"{heading} {sum(k.startswith(heading) for k in found)}"
            name = [*found][-1] if before.startswith("|") else key
            found.setdefault(name, []).append([cell.strip() for cell in line.strip("|").split("|")])
        before = line
    return found


TABLES = tables()


def cells(table: str) -> list[Any]:
    """Row, column, and whether the cell says yes."""
    header, *rows = TABLES[table]
    found = []
    for row in rows:
        for column, cell in zip(header[1:], row[1:], strict=True):
            assert re.match("(yes|no)\\b", cell), cell
            found.append(pytest.param(row[0], column, cell.startswith("yes"), id=f"{row[0]}-{column}"))
    return found


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)


def drawn() -> np.ndarray:
    mask = np.zeros(SIZE[::-1], bool)
    mask[5:20, 8:30] = True
    return mask


def masked(folder: Path, picture: Path | None, mask: Path | None) -> None:
    """``images`` and ``masks`` of a picture and a mask; a plain one where it is None."""
    for part, given, plain in (("images", picture, pixels()), ("masks", mask, 255 * drawn().astype(np.uint8))):
        (folder / part).mkdir(parents=True)
        if given is None:
            Image.fromarray(plain).save(folder / part / "a.png")
        else:
            (folder / part / f"a{given.suffix}").write_bytes(given.read_bytes())
