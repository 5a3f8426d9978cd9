"""Published scores as lines of a table, from the package's reference file."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from mshnet_pl.report.bootstrap import Estimate
from mshnet_pl.report.formats import Line, Scores, Shots

_TABLES = {
    ("Pascal5i", False): "table2_pascal5i",
    ("Coco20i", False): "table3_coco20i",
    ("Pascal5i", True): "table4_single_similarity_pascal5i",
}


def published(data: str, single: bool = False) -> list[Line]:
    """The lines of the paper's table for a data source's class; none for other data.

    Args:
        data: ``Pascal5i``, ``Coco20i`` and the like.
        single: the table of single similarities.
    """
    return [_line(row) for row in _reference().get(_TABLES.get((data, single), ""), ())]


def _line(row: Mapping[str, Any]) -> Line:
    name = f"MSHNet {row['similarity']}" if "similarity" in row else row["method"]
    millions = row.get("learnable_params_m")
    return Line(
        row["backbone"],
        re.sub(r" (\[\d+\]|\(ours\))$", "", name),
        shots={1: _shots(row["one_shot"]), 5: _shots(row["five_shot"])},
        parameters=round(1e6 * millions) if millions else None,
    )


def _shots(cell: Mapping[str, Any]) -> Shots:
    fb_iou = cell.get("fb_iou")
    folds = tuple(Scores(Estimate(value)) for value in cell["folds"])
    return Shots(folds, Scores(Estimate(cell["miou"]), None if fb_iou is None else Estimate(fb_iou)))


@cache
def _reference() -> dict[str, Sequence[Any]]:
    content: dict[str, Sequence[Any]] = json.loads((files("mshnet_pl.reference") / "published.json").read_text())
    return content
