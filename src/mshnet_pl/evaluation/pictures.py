"""The episodes of a test that tell most, as arrays: its best, its median and its worst ones."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from mshnet_pl.data.io.marks import OPEN
from mshnet_pl.data.io.transforms import to_image
from mshnet_pl.episode import Episode
from mshnet_pl.evaluation.metrics import EpisodeCounts, row_iou
from mshnet_pl.utils.files import write_whole
from mshnet_pl.utils.hashing import sha256


def select_episodes(counts: EpisodeCounts, each: int) -> dict[tuple[int, int], tuple[str, float]]:
    """Choose ``each`` best, median and worst rows by their IoU, no row twice.

    Returns:
        (number, class) of the chosen rows with their kind and IoU in percent; best first, ties in the order of ``counts``.
    """
    iou = row_iou(counts)
    order = iou.argsort(descending=True, stable=True).tolist()
    best, rest = order[:each], order[each:]
    worst, rest = rest[max(len(rest) - each, 0) :], rest[: max(len(rest) - each, 0)]
    start = max(len(rest) - each, 0) // 2
    kinds = {"best": best, "median": rest[start : start + each], "worst": worst}
    chosen = [(row, kind) for kind, rows in kinds.items() for row in rows]
    return {(int(counts[row, 0]), int(counts[row, 1])): (kind, float(iou[row])) for row, kind in chosen}


def save(
    path: Path,
    chosen: dict[tuple[int, int], tuple[str, float]],
    episodes: Iterable[Episode],
    predicted: Sequence[UInt8[Tensor, "batch height width"]],
) -> str:
    """Write the chosen episodes as compressed ``.npz``, arrays named ``PLACE/WHAT``.

    Returns:
        The file's SHA-256.
    """
    places = {key: place for place, key in enumerate(chosen)}
    arrays: dict[str, np.ndarray] = {}
    for batch, labels in zip(episodes, predicted, strict=True):
        for i, key in enumerate(zip(batch.number.tolist(), batch.class_id.tolist(), strict=True)):
            if key not in places:  # another class of an N-way episode
                continue
            height, width = batch.query_size[i].tolist()
            row = {
                "kind": np.array(chosen[key][0]),
                "query": to_image(batch.query[i]),
                "support": np.stack([to_image(image) for image in batch.support[i]]),
                "support_mask": ((batch.support_mask[i] > 0) & (batch.support_mask[i] < OPEN)).byte().numpy(),
                "truth": batch.query_mask[i, :height, :width].numpy(),
                "prediction": labels[i, :height, :width].cpu().numpy(),
                "iou": np.array(chosen[key][1]),
                "class_id": np.array(key[1]),
                "number": np.array(key[0]),
            }
            arrays |= {f"{places[key]}/{what}": value for what, value in row.items()}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]  # numpy's stub of savez
    write_whole(path, content.getvalue())
    return sha256(path)
