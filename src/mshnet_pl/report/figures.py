"""Recorded episodes to a picture grid: supports, query, truth and prediction."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mshnet_pl import results

_MASK = np.array([255, 60, 40])
_UNKNOWN_GREY = np.array([255, 255, 255])


def episode_grid(folders: Sequence[Path], target: Path | None = None, rows_each: int = 1) -> Path | None:
    """Draw the first episodes of every trained or training-free test below ``folders``.

    Args:
        folders: searched at any depth for result files and the pictures beside them.
        target: the PNG to write; ``episodes.png`` in the first folder by default.
        rows_each: episodes of each test.

    Returns:
        The PNG's path, or None where no test kept pictures.
    """
    rows: list[tuple[str, dict[str, Any]]] = []
    for path in sorted({p for folder in folders for p in folder.rglob(results.FILE)}):
        result = results.load(path)
        for test in result.tests:
            kept = path.parent / f"pictures_{test.weights}_{test.shot}shot_seed{test.seed}.npz"
            if test.weights == "untrained" or not kept.is_file():
                continue
            label = f"fold {result.config['fold']}, {test.shot}-shot"
            rows += [(label, row) for row in _read(kept)[:rows_each]]
    if not rows:
        return None
    rows.sort(key=lambda row: (len(row[1]["support"]), row[0]))
    target = target or folders[0] / "episodes.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    _draw(rows).savefig(target, dpi=110, bbox_inches="tight")
    return target


def _read(path: Path) -> list[dict[str, Any]]:
    with np.load(path) as arrays:
        rows: dict[int, dict[str, Any]] = {}
        for key in arrays.files:
            number, _, what = key.partition("/")
            rows.setdefault(int(number), {})[what] = arrays[key]
    return [rows[number] for number in sorted(rows)]


def _draw(rows: Sequence[tuple[str, dict[str, Any]]]) -> Figure:
    shots = max(len(row["support"]) for _, row in rows)
    columns = shots + 3
    figure = Figure(figsize=(1.6 * columns, 1.68 * len(rows)), layout="compressed")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (label, row) in zip(axes, rows, strict=True):
        for ax in line:
            ax.set_axis_off()
        for ax, image, mask in zip(line, row["support"], row["support_mask"], strict=False):
            ax.imshow(_overlay(image, mask))
            ax.set_title("support", fontsize=7)
        for ax, title, mask in (
            (line[shots], "query", None),
            (line[shots + 1], "truth", row["truth"]),
            (line[shots + 2], f"prediction, IoU {float(row['iou']):.0f}", row["prediction"]),
        ):
            ax.imshow(row["query"] if mask is None else _overlay(row["query"], mask))
            ax.set_title(title, fontsize=7)
        line[0].text(-0.08, 0.5, label, rotation=90, va="center", ha="right", fontsize=8, transform=line[0].transAxes)
    return figure


def _overlay(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mask in red over the image, unknown pixels whitened; the mask may have another size."""
    y, x = (np.arange(n) * m // n for n, m in zip(image.shape[:2], mask.shape, strict=True))
    mask = mask[y[:, None], x[None, :]]
    blended = image.astype(np.float64)
    for value, colour in ((1, _MASK), (255, _UNKNOWN_GREY)):
        blended[mask == value] = 0.45 * blended[mask == value] + 0.55 * colour
    return blended.round().astype(np.uint8)
