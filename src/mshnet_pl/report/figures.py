"""Recorded episodes to a picture grid: supports, query, truth and prediction."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mshnet_pl import results
from mshnet_pl.episode import UNKNOWN

_DIM = 0.3
"""Brightness of what a mask leaves out."""
_OUTLINE = np.array([255, 255, 255])


def episode_grids(folders: Sequence[Path], target: Path | None = None, rows_each: int = 2) -> list[Path]:
    """Draw recorded episodes of every trained or training-free test below ``folders``, a picture for each number of shots.

    Args:
        folders: searched at any depth for result files and the pictures beside them.
        target: folder of the PNGs ``episodes_Kshot.png``; by default the first of ``folders``.
        rows_each: episodes of each test.

    Returns:
        The PNGs' paths.
    """
    rows: dict[int, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for path in sorted({p for folder in folders for p in folder.rglob(results.FILE)}):
        result = results.load(path)
        for test in result.tests:
            recorded = path.parent / f"pictures_{test.weights}_{test.shot}shot_seed{test.seed}.npz"
            if test.weights == "untrained" or not recorded.is_file():
                continue
            kept, start = _read(recorded), len(rows[test.shot])
            for i in range(min(rows_each, len(kept))):  # other episodes for each test, not the first of all
                rows[test.shot].append((f"fold {result.config['fold']}", kept[(start + i) % len(kept)]))
    target = target or folders[0]
    target.mkdir(parents=True, exist_ok=True)
    paths = []
    for shot, found in sorted(rows.items()):
        paths.append(target / f"episodes_{shot}shot.png")
        _draw(found).savefig(paths[-1], dpi=90, bbox_inches="tight")
    return paths


def _read(path: Path) -> list[dict[str, Any]]:
    with np.load(path) as arrays:
        rows: dict[int, dict[str, Any]] = {}
        for key in arrays.files:
            number, _, what = key.partition("/")
            rows.setdefault(int(number), {})[what] = arrays[key]
    return [rows[number] for number in sorted(rows)]


def _draw(rows: Sequence[tuple[str, dict[str, Any]]]) -> Figure:
    shots = len(rows[0][1]["support"])
    columns = shots + 3
    figure = Figure(figsize=(1.6 * columns, 1.72 * len(rows)), layout="compressed")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (label, row) in zip(axes, rows, strict=True):
        supports = [
            ("support", _spotlight(image, mask)) for image, mask in zip(row["support"], row["support_mask"], strict=True)
        ]
        panels = [
            *supports,
            ("query", row["query"]),
            ("truth", _spotlight(row["query"], row["truth"])),
            (f"prediction, IoU {float(row['iou']):.0f}", _spotlight(row["query"], row["prediction"])),
        ]
        for ax, (title, picture) in zip(line, panels, strict=True):
            ax.imshow(picture)
            ax.set_title(title, fontsize=7)
            ax.set_axis_off()
        line[0].text(-0.08, 0.5, label, rotation=90, va="center", ha="right", fontsize=8, transform=line[0].transAxes)
    return figure


def _spotlight(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The object as it is, all else dimmed, a line between them; unknown pixels grey. The mask may have another size."""
    y, x = (np.arange(n) * m // n for n, m in zip(image.shape[:2], mask.shape, strict=True))
    mask = mask[y[:, None], x[None, :]]
    inside = mask == 1
    shown = np.where(inside[..., None], image, _DIM * image)
    shown[mask == UNKNOWN] = 128
    shown[inside ^ _shrunk(inside)] = _OUTLINE
    return shown.round().astype(np.uint8)


def _shrunk(inside: np.ndarray) -> np.ndarray:
    """The pixels whose four neighbours are inside too."""
    padded = np.pad(inside, 1, constant_values=True)
    return inside & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
