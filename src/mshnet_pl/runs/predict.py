"""Masks, overlays and numbers for a folder of images, from a checkpoint and a few masked ones."""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from mshnet_pl import __version__
from mshnet_pl.data.io.folders import passed_over_lines
from mshnet_pl.data.io.images import MAX_BITS, bits_of, read_image
from mshnet_pl.data.io.marks import Marks
from mshnet_pl.data.io.masks import doubt, read_mask
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.inference.annotation_output import CocoFile, Part, labelme, parts
from mshnet_pl.inference.draw import SIDE, contact_sheet, mask_image, overlay
from mshnet_pl.inference.labels import min_margin, to_labels
from mshnet_pl.inference.presence import MIN_PRESENCE, presence
from mshnet_pl.inference.queries import Query, find_queries
from mshnet_pl.inference.segmenter import Segmenter
from mshnet_pl.inference.supports import Support, Supports, read_supports
from mshnet_pl.inference.tiling import check_tile
from mshnet_pl.options import ResultFormat
from mshnet_pl.utils.files import whole_file, write_whole
from mshnet_pl.utils.signals import Interruption

log = logging.getLogger(__name__)

_COCO = "coco.json"
_MAX_CLASSES = 255
"""So many colours a palette has besides the background's."""
_MAX_PANELS = 100
"""So many queries come onto the contact sheet."""
_MAX_LINES = 20
"""So many annotations that are left out come onto the screen; predictions.json has all."""


class PredictionJob(NamedTuple):
    """What to segment, by what, and how.

    Attributes:
        ckpt: a checkpoint of ``mshnet-train``, or the name of a network, see ``inference.pretrained``.
        support: a folder or file of masked images, see ``inference.supports``.
        query: a folder, a file or a pattern.
        out: folder of the results.
        negative: as ``support``, of what looks like the object and is not.
        threshold: what an object's foreground probability must exceed.
        flip: average over the mirrored images too; None, as for the next three, for the checkpoint's own setting.
        scales: average over images resized by these factors.
        fusion: ``network``, ``mean`` or ``vote``, see ``options.Fusion``.
        guided: radius of the guided filter as a share of the side.
        tile: segment images that are larger by overlapping tiles of that many pixels.
        value: the object's value in masks that are label maps.
        bits: how deep images of more than 8 bits are, which have one scale; None for the depth that holds all of them.
        batch_size: how many images go through the network at a time.
        device: such as ``cpu`` or ``cuda:1``.
        overwrite: replace results that are there.
        format: ``png``, or with a file for label tools, see ``options.ResultFormat``: ``coco``, ``labelme``.
        instances: take every connected part of a mask for an object with a box and a score of its own.
        min_presence: presence, see ``inference.presence``, from which on a class counts as found.
    """

    ckpt: str
    support: Path
    query: str
    out: Path
    negative: Path | None = None
    threshold: float = 0.5
    flip: bool | None = None
    scales: Sequence[float] | None = None
    fusion: str | None = None
    guided: float | None = None
    tile: int | None = None
    value: int | None = None
    bits: int | None = None
    batch_size: int = 8
    device: str | None = None
    overwrite: bool = False
    format: str = ResultFormat.png
    instances: bool = False
    min_presence: float = MIN_PRESENCE


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
    _check_results(given)
    queries, passed_over = find_queries(given.query)
    sheet, record = given.out / "contact_sheet.png", given.out / "predictions.json"
    _check_out(
        given, queries, [sheet, record, *_label_files(given, queries), *(p for q in queries for p in _results(given.out, q))]
    )
    supports = read_supports(given.support, given.negative)
    _check_supports(given, supports)
    passed_over |= supports.passed_over
    for line in (*passed_over_lines(passed_over), *_left_out(supports.left_out)):
        log.warning("%s", line)
    given = given._replace(bits=_bits(given.bits, queries, supports.shown))
    segmenter = Segmenter.from_pretrained(
        given.ckpt, given.device, given.batch_size,
        flip=given.flip, scales=given.scales, fusion=given.fusion, guided=given.guided,
    )  # fmt: skip
    segmenter.check_threshold(given.threshold)
    given = given._replace(**segmenter.settings)
    panels, shares = _fit(segmenter, supports, given)
    max_panels = len(panels) + _MAX_PANELS
    rows: list[dict[str, Any]] = []
    unreadable: list[dict[str, Any]] = []
    coco = CocoFile(given.out / _COCO, segmenter.classes)
    segmented = _segmented(segmenter, queries, given, unreadable)
    with Interruption(waits=True) as interruption:
        for query, image, margins in tqdm(segmented, total=len(queries), unit="image", disable=None):
            labels = to_labels(margins, given.threshold)
            outlined = overlay(image, labels)
            mask_path, overlay_path = _results(given.out, query)
            _save(mask_image(labels, len(margins)), mask_path)
            _save(outlined, overlay_path)
            row, found = _row(query, segmenter.classes, labels, margins, given)
            rows.append(row)
            if given.format == ResultFormat.coco:
                coco.add(query.path, *image.size, found)
            if given.format == ResultFormat.labelme:
                path = _labelme(given.out, query)
                write_whole(path, labelme(path, query.path, *image.size, found))
            if len(panels) < max_panels:
                doubtful = "" if any(row["found"].values()) else ", doubtful"
                share = f"{(labels > 0).mean():.1%}{doubtful}" if labels.any() else "not found"
                panels.append((f"{query.name}: {share}", _small(outlined)))
            if interruption.signal is not None:
                break
        _save(contact_sheet(panels), sheet)
        if given.format == ResultFormat.coco:
            write_whole(given.out / _COCO, coco.content())
        left = len(queries) - len(rows) - len(unreadable)
        content = _record(given, segmenter, supports, shares, rows, unreadable, left)
        content |= {
            "passed_over": {str(path): reason for path, reason in passed_over.items()},
            "left_out": supports.left_out,
        }
        write_whole(record, f"{json.dumps(content, indent=1)}\n".encode())
        if left:
            kept = f"{len(rows)} of {len(queries)} images are segmented, as {record} says"
            raise interruption.ended(kept, "The same command with overwrite=true does them all.")
    log.info("%s", _summary(given.out, rows))
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


def _check_results(given: PredictionJob) -> None:
    if given.format not in [*ResultFormat]:
        raise ConfigError(f"format={given.format}: give {', '.join(ResultFormat)}")
    if not 0 <= given.min_presence <= 1:
        raise ConfigError(f"min_presence={given.min_presence}: give a number from 0 to 1")


def _label_files(given: PredictionJob, queries: Sequence[Query]) -> list[Path]:
    if given.format == ResultFormat.labelme:
        return [_labelme(given.out, query) for query in queries]
    return [given.out / _COCO] if given.format == ResultFormat.coco else []


def _labelme(out: Path, query: Query) -> Path:
    return out / "labelme" / f"{query.name}.json"


def _check_supports(given: PredictionJob, supports: Supports) -> None:
    classes = len(supports.classes)
    if classes > _MAX_CLASSES:
        raise ConfigError(f"support={given.support} has {classes} classes, but a palette {_MAX_CLASSES}; give fewer")
    if given.value is not None and not all(isinstance(s.mask, Path) for shown in supports.shown.values() for s in shown):
        raise ConfigError(f"value={given.value} is for masks that are label maps, but support={given.support} has outlines")


def _left_out(problems: Sequence[str]) -> list[str]:
    """A line for every annotation that cannot be used, the first of many."""
    more = [f"and {len(problems) - _MAX_LINES} more annotations"] if len(problems) > _MAX_LINES else []
    return [f"left out: {line}" for line in (*problems[:_MAX_LINES], *more)]


def _bits(given: int | None, queries: Sequence[Query], supports: Mapping[str, Sequence[Support]]) -> int:
    """How deep the images are that are deeper than 8 bits, for one scale."""
    depths = [query.bits() for query in queries] + [bits_of(s.image) for shown in supports.values() for s in shown]
    if given is not None and not 8 <= given <= MAX_BITS:
        raise ConfigError(f"bits={given}: give 8 to {MAX_BITS}, or leave it out")
    if given is not None and given < max(depths):
        raise ConfigError(f"bits={given}: there are images of {max(depths)} bits; give that, or leave it out")
    return given or max(depths)


def _fit(
    segmenter: Segmenter, supports: Supports, given: PredictionJob
) -> tuple[list[tuple[str, Image.Image]], dict[str, list[float]]]:
    """Fit every class; gives the supports for the contact sheet, outlined, and the share of each that is the object."""
    panels: list[tuple[str, Image.Image]] = []
    shares: dict[str, list[float]] = {}
    for number, (name, shown) in enumerate(supports.shown.items(), start=1):
        images = [read_image(support.image, bits=given.bits or 8) for support in shown]
        masks = [
            segmenter.complete(image, support.mask) if isinstance(support.mask, Marks) else support.mask
            for support, image in zip(shown, images, strict=True)
        ]
        segmenter.fit(name, images, masks, value=given.value, negative=name in supports.negatives)
        shares[name] = []
        for support, image, drawn in zip(shown, images, masks, strict=True):
            mask = read_mask(drawn, given.value)
            shares[name].append(float(mask.mean()))
            title = f"{name}: {support.file.name} {mask.mean():.1%}{', made' if isinstance(support.mask, Marks) else ''}"
            log.info("support %s", title)
            if doubt(mask):
                log.warning("%s: %s", support.file, doubt(mask))
            panels.append((title, _small(overlay(image, number * mask.astype(np.uint8)))))
    return panels, shares


def _summary(out: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Where the results are, in how many images an object was found, and how much of those is object."""
    shares = sorted(sum(row["area"].values()) / (row["width"] * row["height"]) for row in rows)
    found = [share for share in shares if share]
    sizes = f": {median(found):.1%} of an image is object (median; {found[0]:.1%} to {found[-1]:.1%})" if found else ""
    return f"{out}: objects found in {len(found)} of {len(rows)} images{sizes}"


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
                read.append((query, query.read(given.bits or 8)))
            except DataError as error:
                unreadable.append({"file": str(query.path), "page": query.page, "error": str(error)})
        found = segmenter.margins([image for _, image in read], given.tile)
        yield from ((*one, margins) for one, margins in zip(read, found, strict=True))


def _row(
    query: Query, classes: Sequence[str], labels: np.ndarray, margins: Tensor, given: PredictionJob
) -> tuple[dict[str, Any], list[Part]]:
    """Sizes in pixels; mean foreground probabilities over the image, and over the object's pixels (None without any).

    Beside it the objects, which the row lists too where ``instances`` asks for it.
    """
    mask_path, overlay_path = _results(Path(), query)
    probabilities = margins.sigmoid().cpu().numpy()
    inside = {name: labels == number for number, name in enumerate(classes, start=1)}
    found = [(name, part, p) for (name, part), p in zip(inside.items(), probabilities, strict=True)]
    present = {name: presence(margin) for name, margin in zip(classes, margins, strict=True)}
    objects = parts(labels, classes, probabilities, given.instances)
    row = {
        "file": str(query.path),
        "page": query.page,
        "mask": str(mask_path),
        "overlay": str(overlay_path),
        "width": labels.shape[1],
        "height": labels.shape[0],
        "area": {name: int(part.sum()) for name, part in inside.items()},
        "presence": present,
        "found": {name: score >= given.min_presence for name, score in present.items()},
        "mean_probability": {name: float(p.mean(dtype=np.float64)) for name, _, p in found},
        "mean_probability_inside": {
            name: float(p[part].mean(dtype=np.float64)) if part.any() else None for name, part, p in found
        },
    }
    if given.instances:
        row["instances"] = [
            {"class": part.class_name, "box": part.box, "area": int(part.mask.sum()), "score": part.score}
            for part in objects
        ]
    return row, objects


def _record(
    given: PredictionJob,
    segmenter: Segmenter,
    supports: Supports,
    shares: Mapping[str, Sequence[float]],
    rows: Sequence[Any],
    unreadable: Sequence[Any],
    left: int,
) -> dict[str, Any]:
    return {
        "settings": {key: str(value) if isinstance(value, Path) else value for key, value in given._asdict().items()},
        "checkpoint_sha256": segmenter.source.sha256 if segmenter.source else None,
        "version": __version__,
        "classes": {name: number for number, name in enumerate(supports.classes, start=1)},
        "supports": {
            name: [
                {
                    "image": str(s.file),
                    "mask": str(s.mask) if isinstance(s.mask, Path) else None,
                    "share": share,
                    "made_of_marks": isinstance(s.mask, Marks),
                }
                for s, share in zip(shown, shares[name], strict=True)
            ]
            for name, shown in supports.shown.items()
        },
        "predictions": rows,
        "unreadable": unreadable,
        "left_undone": left,
    }


def _small(image: Image.Image) -> Image.Image:
    image.thumbnail((SIDE, SIDE))
    return image


def _save(image: Image.Image, path: Path) -> None:
    with whole_file(path) as file:
        image.save(file, "PNG")
