"""Masks, overlays and numbers for a folder of images, from a checkpoint and a few masked ones."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from mshnet_pl import __version__
from mshnet_pl.data.io.images import read_image, read_mask
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.inference.draw import SIDE, contact_sheet, mask_image, overlay
from mshnet_pl.inference.labels import min_margin, to_labels
from mshnet_pl.inference.queries import Query, find_queries
from mshnet_pl.inference.segmenter import Segmenter
from mshnet_pl.inference.supports import Support, read_supports
from mshnet_pl.inference.tiling import check_tile
from mshnet_pl.utils.files import whole_file, write_whole
from mshnet_pl.utils.signals import Interruption

_MAX_CLASSES = 255
"""So many colours a palette has besides the background's."""
_MAX_PANELS = 100
"""So many queries come onto the contact sheet."""


class PredictionJob(NamedTuple):
    """What to segment, by what, and how.

    Attributes:
        ckpt: a checkpoint of ``mshnet-train``, or the name of a network, see ``inference.pretrained``.
        support: a folder or file of masked images, see ``inference.supports``.
        query: a folder, a file or a pattern.
        out: folder of the results.
        threshold: what an object's foreground probability must exceed.
        flip: average over the mirrored images too; None, as for the next three, for the checkpoint's own setting.
        scales: average over images resized by these factors.
        fusion: ``network``, ``mean`` or ``vote``, see ``options.Fusion``.
        guided: radius of the guided filter as a share of the side.
        tile: segment images that are larger by overlapping tiles of that many pixels.
        value: the object's value in masks that are label maps.
        batch_size: how many images go through the network at a time.
        device: such as ``cpu`` or ``cuda:1``.
        overwrite: replace results that are there.
    """

    ckpt: str
    support: Path
    query: str
    out: Path
    threshold: float = 0.5
    flip: bool | None = None
    scales: Sequence[float] | None = None
    fusion: str | None = None
    guided: float | None = None
    tile: int | None = None
    value: int | None = None
    batch_size: int = 8
    device: str | None = None
    overwrite: bool = False


def predict(given: PredictionJob) -> list[str]:
    """Segment every query into ``out``: ``NAME_mask.png``, ``NAME_overlay.png``, a contact sheet and ``predictions.json``.

    Args:
        given: the job.

    Returns:
        What is wrong with the queries that could not be read.

    Raises:
        ConfigError: a setting that is impossible, or files that would be overwritten.
        DataError: supports that cannot be used, or a folder that cannot be written.
        Interrupted: a signal asked for the end; what is done is recorded.
    """
    min_margin(given.threshold)
    check_tile(given.tile)
    queries = find_queries(given.query)
    sheet, record = given.out / "contact_sheet.png", given.out / "predictions.json"
    _check_out(given, queries, [sheet, record, *(path for query in queries for path in _results(given.out, query))])
    supports = read_supports(given.support)
    _check_supports(given, supports)
    segmenter = Segmenter.from_pretrained(
        given.ckpt, given.device, given.batch_size,
        flip=given.flip, scales=given.scales, fusion=given.fusion, guided=given.guided,
    )  # fmt: skip
    segmenter.check_threshold(given.threshold)
    given = given._replace(**segmenter.settings)
    panels = []
    for number, (name, shown) in enumerate(supports.items(), start=1):
        segmenter.fit(name, [s.image for s in shown], [s.mask for s in shown], value=given.value)
        panels += [(f"{name}: {s.image.name}", _small(_outlined(s, number, given.value))) for s in shown]
    max_panels = len(panels) + _MAX_PANELS
    rows: list[dict[str, Any]] = []
    unreadable: list[dict[str, Any]] = []
    segmented = _segmented(segmenter, queries, given, unreadable)
    with Interruption(waits=True) as interruption:
        for query, image, margins in tqdm(segmented, total=len(queries), unit="image", disable=None):
            labels = to_labels(margins, given.threshold)
            outlined = overlay(image, labels)
            mask_path, overlay_path = _results(given.out, query)
            _save(mask_image(labels, len(margins)), mask_path)
            _save(outlined, overlay_path)
            rows.append(_row(query, segmenter.classes, labels, margins))
            if len(panels) < max_panels:
                panels.append((query.name, _small(outlined)))
            if interruption.signal is not None:
                break
        _save(contact_sheet(panels), sheet)
        left = len(queries) - len(rows) - len(unreadable)
        said = _record(given, segmenter, supports, rows, unreadable, left)
        write_whole(record, f"{json.dumps(said, indent=1)}\n".encode())
        if left:
            kept = f"{len(rows)} of {len(queries)} images are segmented, as {record} says"
            raise interruption.ended(kept, "The same command with overwrite=true does them all.")
    return [str(row["error"]) for row in unreadable]


def _check_out(given: PredictionJob, queries: Sequence[Query], results: Sequence[Path]) -> None:
    if given.out.resolve() in {query.path.parent.resolve() for query in queries}:
        raise ConfigError(f"out={given.out} holds queries, and results would be queries the next time; give another folder")
    there = [path for path in results if path.exists()]
    if there and not given.overwrite:
        raise ConfigError(
            f"out={given.out}: {len(there)} of the results are there already, such as {there[0].name}; "
            "give another folder, or overwrite=true"
        )


def _check_supports(given: PredictionJob, supports: Mapping[str, Sequence[Support]]) -> None:
    if len(supports) > _MAX_CLASSES:
        raise ConfigError(f"support={given.support} has {len(supports)} classes, but a palette {_MAX_CLASSES}; give fewer")
    if given.value is not None and not all(isinstance(s.mask, Path) for shown in supports.values() for s in shown):
        raise ConfigError(f"value={given.value} is for masks that are label maps, but support={given.support} has outlines")


def _results(out: Path, query: Query) -> tuple[Path, Path]:
    """Where a query's mask and overlay go."""
    return out / f"{query.name}_mask.png", out / f"{query.name}_overlay.png"


def _segmented(
    segmenter: Segmenter, queries: Sequence[Query], given: PredictionJob, unreadable: list[dict[str, Any]]
) -> Iterator[tuple[Query, Image.Image, Tensor]]:
    """Every query that can be read, its image and its margins; what is wrong with the others goes to ``unreadable``."""
    for start in range(0, len(queries), given.batch_size):
        read = []
        for query in queries[start : start + given.batch_size]:
            try:
                read.append((query, query.read()))
            except DataError as error:
                unreadable.append({"file": str(query.path), "page": query.page, "error": str(error)})
        found = segmenter.margins([image for _, image in read], given.tile)
        yield from ((*one, margins) for one, margins in zip(read, found, strict=True))


def _row(query: Query, classes: Sequence[str], labels: np.ndarray, margins: Tensor) -> dict[str, Any]:
    """Sizes in pixels; mean foreground probabilities over the image, and over the object's pixels (None without any)."""
    mask_path, overlay_path = _results(Path(), query)
    probabilities = margins.sigmoid().cpu().numpy()
    inside = {name: labels == number for number, name in enumerate(classes, start=1)}
    found = [(name, part, p) for (name, part), p in zip(inside.items(), probabilities, strict=True)]
    return {
        "file": str(query.path),
        "page": query.page,
        "mask": str(mask_path),
        "overlay": str(overlay_path),
        "width": labels.shape[1],
        "height": labels.shape[0],
        "area": {name: int(part.sum()) for name, part in inside.items()},
        "mean_probability": {name: float(p.mean(dtype=np.float64)) for name, _, p in found},
        "mean_probability_inside": {
            name: float(p[part].mean(dtype=np.float64)) if part.any() else None for name, part, p in found
        },
    }


def _record(
    given: PredictionJob,
    segmenter: Segmenter,
    supports: Mapping[str, Sequence[Support]],
    rows: Sequence[Any],
    unreadable: Sequence[Any],
    left: int,
) -> dict[str, Any]:
    return {
        "settings": {key: str(value) if isinstance(value, Path) else value for key, value in given._asdict().items()},
        "checkpoint_sha256": segmenter.source.sha256 if segmenter.source else None,
        "version": __version__,
        "classes": {name: number for number, name in enumerate(supports, start=1)},
        "supports": {
            name: [{"image": str(s.image), "mask": str(s.mask) if isinstance(s.mask, Path) else None} for s in shown]
            for name, shown in supports.items()
        },
        "predictions": rows,
        "unreadable": unreadable,
        "left_undone": left,
    }


def _outlined(support: Support, number: int, value: int | None) -> Image.Image:
    return overlay(read_image(support.image), number * read_mask(support.mask, value).astype(np.uint8))


def _small(image: Image.Image) -> Image.Image:
    image.thumbnail((SIDE, SIDE))
    return image


def _save(image: Image.Image, path: Path) -> None:
    with whole_file(path) as file:
        image.save(file, "PNG")
