"""What every form of results shares: the job, its checks, the fitted network, and images in batches with their margins."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from mshnet_pl.data.io.folders import passed_over_lines
from mshnet_pl.data.io.images import MAX_BITS, bits_of, read_image
from mshnet_pl.data.io.marks import Marks
from mshnet_pl.data.io.masks import doubt, read_mask
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.inference.draw import SIDE, overlay
from mshnet_pl.inference.labels import min_margin
from mshnet_pl.inference.presence import MIN_PRESENCE
from mshnet_pl.inference.queries import Query
from mshnet_pl.inference.segmenter import Segmenter
from mshnet_pl.inference.support_file import is_support_file
from mshnet_pl.inference.supports import Support, Supports, read_supports
from mshnet_pl.inference.tiling import batches, check_tile
from mshnet_pl.options import Precision, ResultFormat
from mshnet_pl.utils.files import whole_file

log = logging.getLogger(__name__)

_MAX_CLASSES = 255
"""So many colours a palette has besides the background's."""
_MAX_LINES = 20
"""So many annotations that are left out come onto the screen; predictions.json has all."""
Panels = list[tuple[str, Image.Image]]
"""Of a contact sheet."""


class PredictionJob(NamedTuple):
    """What to segment, by what, and how.

    Attributes:
        ckpt: a checkpoint of ``mshnet-train``, or the name of a network, see ``inference.pretrained``.
        support: a folder or file of masked images, see ``inference.supports``, or a file of ``Segmenter.save_support``.
        query: a folder, a file, a pattern or a list, see ``inference.query_lists``.
        out: folder of the results.
        negative: as ``support``, of what looks like the object and is not.
        threshold: what an object's foreground probability must exceed.
        flip: average over the mirrored images too; None, as for the next four, for the checkpoint's own setting.
        scales: average over images resized by these factors.
        fusion: ``network``, ``mean`` or ``vote``, see ``options.Fusion``.
        guided: radius of the guided filter as a share of the side.
        zooms: show supports again by parts so many times as large as their objects.
        tile: segment images that are larger by overlapping tiles of that many pixels.
        value: the object's value in masks that are label maps.
        bits: how deep images of more than 8 bits are, which have one scale; None for the depth that holds all of them.
        batch_size: how many images go through the network at a time.
        device: such as ``cpu`` or ``cuda:1``.
        overwrite: replace results that are there.
        format: ``png``, or with a file for label tools, see ``options.ResultFormat``: ``coco``, ``labelme``; or ``parquet``.
        instances: take every connected part of a mask for an object with a box and a score of its own.
        min_presence: presence, see ``inference.presence``, from which on a class counts as found.
        precision: ``options.Precision``.
        workers: of ``format=parquet``, as the next five: who does the parts, see ``runs.worker_pools``.
        threads: of a worker.
        gpus_per_worker: that Ray sets aside for a worker.
        shard_size: files a part.
        masks: write masks as PNG beside the parts.
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
    zooms: Sequence[float] | None = None
    tile: int | None = None
    value: int | None = None
    bits: int | None = None
    batch_size: int = 8
    device: str | None = None
    overwrite: bool = False
    format: str = ResultFormat.png
    instances: bool = False
    min_presence: float = MIN_PRESENCE
    precision: str = Precision.fp32
    workers: str = "local:1"
    threads: int = 1
    gpus_per_worker: float = 0.0
    shard_size: int = 1000
    masks: bool = False


class Found(NamedTuple):
    """An image, and every class's margins in it."""

    image: Image.Image
    margins: Tensor


def check(given: PredictionJob) -> None:
    """Refuse settings that are impossible before anything is read.

    Raises:
        ConfigError: names the setting.
    """
    min_margin(given.threshold)
    check_tile(given.tile)
    if given.format not in [*ResultFormat]:
        raise ConfigError(f"format={given.format}: give {', '.join(ResultFormat)}")
    if not 0 <= given.min_presence <= 1:
        raise ConfigError(f"min_presence={given.min_presence}: give a number from 0 to 1")
    if given.format != ResultFormat.parquet:
        for key in ("workers", "threads", "gpus_per_worker", "shard_size", "masks"):
            value = getattr(given, key)
            if value != PredictionJob._field_defaults[key]:
                raise ConfigError(
                    f"{key}={value} is for format=parquet, not for format={given.format}; give that, or leave it out"
                )


def load_network(given: PredictionJob, device: str | None = None) -> Segmenter:
    """The network with the job's settings, nothing fitted.

    Args:
        given: the job.
        device: instead of the job's.

    Raises:
        ConfigError: there is no such network or device, or the threshold is none of its predictions.
    """
    segmenter = Segmenter.from_pretrained(
        given.ckpt, device or given.device, given.batch_size, given.precision == Precision.bf16,
        flip=given.flip, scales=given.scales, fusion=given.fusion, guided=given.guided, zooms=given.zooms,
    )  # fmt: skip
    segmenter.check_threshold(given.threshold)
    return segmenter


def prepared(
    given: PredictionJob, supports: Supports, queries: Iterable[Query], device: str | None = None
) -> tuple[PredictionJob, Segmenter]:
    """The job with the network's own settings and one scale of deep images, and the network; a support file is fitted.

    Args:
        given: the job.
        supports: its supports.
        queries: those whose depths count.
        device: instead of the job's.

    Raises:
        ConfigError: as ``load_network``, or an impossible depth.
        DataError: a support file that belongs to another network.
    """
    bits = common_bits(given.bits, queries, supports.shown)
    segmenter = load_network(given, device)
    if not supports.classes:
        segmenter.load_support(given.support)
        _check_classes(given, len(segmenter.classes))
    return given._replace(bits=max(bits, segmenter.bits), **segmenter.settings), segmenter


def find_supports(given: PredictionJob) -> Supports:
    """The supports, none for a support file; what is not used is logged.

    Raises:
        ConfigError: more classes than a palette has colours, or ``value`` for what is no label map.
        DataError: they cannot be used.
    """
    from_file = is_support_file(given.support)
    supports = Supports({}, {}, [], {}) if from_file else read_supports(given.support, given.negative)
    _check_classes(given, len(supports.classes))
    if from_file and given.negative is not None:
        raise ConfigError(
            f"negative={given.negative}: support={given.support} holds what was fitted; fit both into that file"
        )
    drawn = all(isinstance(s.mask, Path) for shown in supports.shown.values() for s in shown)
    if given.value is not None and (from_file or not drawn):
        what = "what was fitted" if from_file else "outlines"
        raise ConfigError(f"value={given.value} is for masks that are label maps, but support={given.support} has {what}")
    more = [f"and {len(supports.left_out) - _MAX_LINES} more annotations"] if len(supports.left_out) > _MAX_LINES else []
    for line in (*supports.left_out[:_MAX_LINES], *more):
        log.warning("left out: %s", line)
    return supports


def _check_classes(given: PredictionJob, count: int) -> None:
    if count > _MAX_CLASSES:
        raise ConfigError(f"support={given.support} has {count} classes, but a palette {_MAX_CLASSES}; give fewer")


def log_passed_over(passed_over: Mapping[Path, str]) -> None:
    """Name the files that are no images, and why."""
    for line in passed_over_lines(passed_over):
        log.warning("%s", line)


def common_bits(given: int | None, queries: Iterable[Query], supports: Mapping[str, Sequence[Support]]) -> int:
    """How deep the images are that are deeper than 8 bits, for one scale.

    Raises:
        ConfigError: another depth is given.
    """
    depths = [8, *(bits_of(s.image) for shown in supports.values() for s in shown), *(query.bits() for query in queries)]
    if given is not None and not 8 <= given <= MAX_BITS:
        raise ConfigError(f"bits={given}: give 8 to {MAX_BITS}, or leave it out")
    if given is not None and given < max(depths):
        raise ConfigError(f"bits={given}: there are images of {max(depths)} bits; give that, or leave it out")
    return given or max(depths)


def fit(segmenter: Segmenter, supports: Supports, given: PredictionJob) -> tuple[Panels, dict[str, list[float]]]:
    """Fit every class; gives the supports for the contact sheet, outlined, and the share of each that is the object.

    Raises:
        DataError: a support cannot be used.
    """
    panels: Panels = []
    shares: dict[str, list[float]] = {}
    for number, (name, shown) in enumerate(supports.shown.items(), start=1):
        images = [read_image(support.image, bits=given.bits or 8) for support in shown]
        marked = {i: support.mask for i, support in enumerate(shown) if isinstance(support.mask, Marks)}
        made = segmenter.complete([images[i] for i in marked], [*marked.values()]) if marked else []
        by_place = dict(zip(marked, made, strict=True))
        masks = [support.mask if not isinstance(support.mask, Marks) else by_place[i] for i, support in enumerate(shown)]
        segmenter.fit(name, images, masks, value=given.value, negative=name in supports.negatives)
        shares[name] = []
        for support, image, drawn in zip(shown, images, masks, strict=True):
            mask = read_mask(drawn, given.value)
            shares[name].append(float(mask.mean()))
            title = f"{name}: {support.file.name} {mask.mean():.1%}{', made' if isinstance(support.mask, Marks) else ''}"
            log.info("support %s", title)
            if doubt(mask):
                log.warning("%s: %s", support.file, doubt(mask))
            panels.append((title, small(overlay(image, number * mask.astype(np.uint8)))))
    return panels, shares


def segmented(
    segmenter: Segmenter, queries: Iterable[Query], given: PredictionJob
) -> Iterator[tuple[Query, Found | DataError]]:
    """Every query with what is found in it, or what is wrong with it; no more than a batch is held."""
    for batch in batches(queries, given.batch_size):
        read = [_read(query, given.bits or 8) for query in batch]
        margins = segmenter.margins([image for image in read if isinstance(image, Image.Image)], given.tile)
        for query, image in zip(batch, read, strict=True):
            yield query, image if isinstance(image, DataError) else Found(image, next(margins))


def _read(query: Query, bits: int) -> Image.Image | DataError:
    try:
        return query.read(bits)
    except DataError as error:
        return error


def small(image: Image.Image) -> Image.Image:
    """The image, shrunk to a panel of the contact sheet."""
    image.thumbnail((SIDE, SIDE))
    return image


def save_png(image: Image.Image, path: Path, sync: bool = True) -> None:
    """Write an image whole; ``sync`` as in ``utils.files.whole_path``."""
    with whole_file(path, sync=sync) as file:
        image.save(file, "PNG")


def save_mask(image: Image.Image, query: Query, path: Path, sync: bool = True) -> None:
    """Write a query's mask whole, as PNG or, for a GeoTIFF, as such; see ``Query.mask_name``."""
    if (tags := query.georeference) is None:
        save_png(image, path, sync)
        return
    with whole_file(path, sync=sync) as file:
        image.save(file, "TIFF", compression="tiff_adobe_deflate", tiffinfo=tags)
