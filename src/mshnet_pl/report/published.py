"""Published scores as lines of a table, from the package's reference file."""

import re
from collections.abc import Mapping
from typing import Any

from mshnet_pl.report.bootstrap import Estimate
from mshnet_pl.report.formats import CellScores, Line, Shots
from mshnet_pl.utils.reference import published_numbers

_TABLES = {
    ("Pascal5i", False): "table2_pascal5i",
    ("Coco20i", False): "table3_coco20i",
    ("Pascal5i", True): "table4_single_similarity_pascal5i",
}


def published(data: str, single: bool = False) -> list[Line]:
    """The lines of the paper's table for a data source's class; none for other data."""
    return [_line(row) for row in published_numbers().get(_TABLES.get((data, single), ""), ())]


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
    folds = tuple(CellScores(Estimate(value)) for value in cell["folds"])
    return Shots(folds, CellScores(Estimate(cell["miou"]), None if fb_iou is None else Estimate(fb_iou)))
