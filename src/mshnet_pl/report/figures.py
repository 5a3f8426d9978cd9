"""Recorded episodes as picture grids: supports, query, truth and prediction."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from matplotlib.figure import Figure
from scipy.ndimage import binary_erosion

from mshnet_pl.errors import DataError
from mshnet_pl.options import UNKNOWN
from mshnet_pl.report.measured import Measured
from mshnet_pl.utils.files import whole_file
from mshnet_pl.utils.hashing import sha256
from mshnet_pl.utils.targets import network_name as method

_DIM = 0.3
"""Brightness of what a mask leaves out."""
_GROUND = 220
"""Of masks without photographs."""
_OUTLINE = np.array([255, 255, 255])
_GAP = 2  # white pixels at either side of a picture
_KINDS = ("best", "median", "worst", "example")
_Image = UInt8[np.ndarray, "height width 3"]


class EpisodePicture(NamedTuple):
    """A recorded episode."""

    kind: str
    """``best``, ``median`` or ``worst`` of its test by IoU; ``example`` where that was not recorded."""
    number: int
    class_id: int
    iou: float
    """Percent."""
    panels: list[tuple[str, _Image]]
    """Titles and images: supports, query, truth, prediction."""


def episode_pictures(measured: Measured, each: int, photographs: bool = True) -> list[EpisodePicture]:
    """The recorded episodes of a test, up to ``each`` of a kind, the best first; none where none were recorded.

    Args:
        measured: the test.
        each: how many of a kind.
        photographs: False shows masks on a plain ground, for photographs that may not be passed on.

    Raises:
        DataError: a damaged file.
    """
    path = measured.pictures
    if path is None:
        return []
    kept: dict[str, list[EpisodePicture]] = defaultdict(list)
    try:
        if measured.test.pictures_sha256 not in (None, sha256(path)):
            raise ValueError("they are not those that its result was written with")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            for i in sorted({int(key.partition("/")[0]) for key in arrays.files}):
                kind = str(arrays[f"{i}/kind"]) if f"{i}/kind" in arrays.files else "example"
                if len(kept[kind]) < each:
                    row = {key.partition("/")[2]: arrays[key] for key in arrays.files if key.startswith(f"{i}/")}
                    numbers = int(row["number"]), int(row["class_id"]), float(row["iou"])
                    kept[kind].append(EpisodePicture(kind, *numbers, _panels(row, photographs)))
    except Exception as error:  # a damaged file raises almost anything
        raise DataError(f"{path} does not hold pictures of episodes: {error}; move it away to go without") from error
    return [picture for kind in _KINDS for picture in kept[kind]]


def episode_grids(tests: Sequence[Measured], target: Path, each: int = 1, photographs: bool = True) -> list[Path]:
    """Draw recorded episodes of every test but those of untrained networks, a picture for each number of shots.

    Args:
        tests: whose episodes.
        target: folder of the PNGs ``episodes_Kshot.png``.
        each: episodes of a kind (best, median, worst) of each test.
        photographs: False shows masks alone.

    Returns:
        The PNGs' paths.
    """
    several = len({method(measured.result.config) for measured in tests}) > 1
    rows: dict[int, list[tuple[str, EpisodePicture]]] = defaultdict(list)
    for measured in tests:
        if measured.test.weights != "untrained":
            where = [method(measured.result.config)] * several + [f"fold {measured.result.config['fold']}"]
            rows[measured.test.shot] += [
                ("\n".join([*where, p.kind]), p) for p in episode_pictures(measured, each, photographs)
            ]
    paths = []
    for shot, found in sorted(rows.items()):
        if found:
            paths.append(target / f"episodes_{shot}shot.png")
            with whole_file(paths[-1]) as file:
                _draw(found).savefig(file, format="png", dpi=90, bbox_inches="tight")
    return paths


def _panels(row: dict[str, np.ndarray], photographs: bool) -> list[tuple[str, _Image]]:
    shape = row["query"].shape
    if len(shape) != 3 or shape[2] != 3 or row["support"].shape[1:] != shape or row["query"].dtype != np.uint8:
        raise ValueError(f"images of shape {shape} and {row['support'].shape}, expected (S, S, 3) and (K, S, S, 3) uint8")
    query, support = (row[name] if photographs else np.full_like(row[name], _GROUND) for name in ("query", "support"))
    return [
        *(("support", _spotlight(image, mask)) for image, mask in zip(support, row["support_mask"], strict=True)),
        *([("query", query)] if photographs else []),
        ("truth", _spotlight(query, row["truth"])),
        ("prediction", _spotlight(query, row["prediction"])),
    ]


def _draw(rows: Sequence[tuple[str, EpisodePicture]]) -> Figure:
    columns = len(rows[0][1].panels)
    figure = Figure(figsize=(1.6 * columns, 1.75 * len(rows)), layout="constrained")
    for ax, (label, picture) in zip(figure.subplots(len(rows), squeeze=False)[:, 0], rows, strict=True):
        strip = np.hstack(
            [np.pad(image, ((0, 0), (_GAP, _GAP), (0, 0)), constant_values=255) for _, image in picture.panels]
        )
        side = strip.shape[1] / columns
        titles = [f"{title}, IoU {picture.iou:.0f}" if title == "prediction" else title for title, _ in picture.panels]
        ax.imshow(strip)
        ax.set_xticks([(i + 0.5) * side for i in range(columns)], titles, fontsize=7)
        ax.tick_params(bottom=False, labelbottom=False, labeltop=True, left=False, labelleft=False, pad=0)
        ax.spines[:].set_visible(False)
        ax.set_ylabel(label, fontsize=7)
    return figure


def _spotlight(image: np.ndarray, mask: np.ndarray) -> _Image:
    """The object as it is, all else dimmed, a line between them; unknown pixels grey. The mask may have another size."""
    y, x = (np.arange(n) * m // n for n, m in zip(image.shape[:2], mask.shape, strict=True))
    mask = mask[y[:, None], x[None, :]]
    inside = mask == 1
    shown = np.where(inside[..., None], image, _DIM * image)
    shown[mask == UNKNOWN] = 128
    shown[inside & ~binary_erosion(inside, border_value=1)] = _OUTLINE
    return shown.round().astype(np.uint8)
