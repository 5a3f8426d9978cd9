"""The Parquet parts that ``mshnet-predict format=parquet`` wrote, read by other libraries."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pycocotools import mask as rle_tools


def parts(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("part-*.parquet")}


def rows(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(out.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]


def drawn(row: dict[str, Any]) -> np.ndarray:
    if row["rle"] is None:
        return np.zeros((row["height"], row["width"]), bool)
    return rle_tools.decode({"size": [row["height"], row["width"]], "counts": row["rle"]}) > 0
