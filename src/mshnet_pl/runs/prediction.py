"""What every form of results shares: the job, its checks, the fitted network, and images in batches with their margins."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from mshnet_pl.config.commands import PredictConfig
from mshnet_pl.data.io.annotations import annotation_files
from mshnet_pl.data.io.folders import passed_over_lines
from mshnet_pl.data.io.images import MAX_BITS, bits_of, read_image
from mshnet_pl.data.io.marks import Marks
from mshnet_pl.data.io.masks import read_mask
from mshnet_pl.errors import ConfigError, DataError, UserError, one_line
from mshnet_pl.inference.draw import SIDE, overlay
from mshnet_pl.inference.labels import min_margin
from mshnet_pl.inference.queries import Query
from mshnet_pl.inference.segmenter import Segmenter
from mshnet_pl.inference.support_file import is_support_file
from mshnet_pl.inference.supports import Support, Supports, read_supports
from mshnet_pl.inference.tiling import batches, check_tile
from mshnet_pl.options import Fusion, Precision, ResultFormat
from mshnet_pl.utils.files import check_writable, whole_file

log = logging.getLogger(__name__)

_MAX_CLASSES = 255
"""So many colours a palette has besides the background's."""
_MAX_LINES = 20
"""So many annotations that are left out come onto the screen; predictions.json has all."""
Panels = list[tuple[str, Image.Image]]
"""Of a contact sheet."""
T = TypeVar("T")


class Found(NamedTuple):
    """An image, and every class's margins in it."""

    image: Image.Image
    margins: Tensor


def check(given: PredictConfig) -> None:
    """Refuse settings that are impossible before anything is read.

    Raises:
        ConfigError: names the setting.
        DataError: ``out`` cannot be written.
    """
    min_margin(given.threshold)
    check_tile(given.tile)
    if given.format != ResultFormat.parquet:
        defaults = {one.name: one.default for one in fields(given)}
        for key in ("workers", "threads", "gpus_per_worker", "shard_size", "masks"):
            value = getattr(given, key)
            if value != defaults[key]:
                raise ConfigError(
                    f"{key}={value} is for format=parquet, not for format={given.format}; give that, or leave it out"
                )
    check_writable(given.out, next(place for place in (given.out, *given.out.parents) if os.path.lexists(place)))


def check_apart(given: PredictConfig, supports: Supports, results: Sequence[Path]) -> None:
    """Refuse results in the place of a support, or beside one, where the next time they would be supports themselves.

    Args:
        given: the job.
        supports: whose images, masks and annotations stay as they are, whatever ``overwrite`` says.
        results: files that are written, and folders that are replaced.

    Raises:
        ConfigError: names the first.
    """
    places = [place for place in (given.support, given.negative) if place is not None]
    own = [file for shown in supports.shown.values() for s in shown for file in (s.image, s.mask) if isinstance(file, Path)]
    own += [file for place in places if place.is_dir() for file in annotation_files(place)]
    beside = {os.path.realpath(file.parent) for file in own}
    kept = [Path(os.path.realpath(file)) for file in (*own, *places)]
    inside = {str(place) for file in kept for place in (file, *file.parents)}
    folders = {folder: os.path.realpath(folder) for folder in {path.parent for path in results}}
    for path in results:
        folder = folders[path.parent]
        if folder in beside or os.path.join(folder, path.name) in inside:
            raise ConfigError(
                f"out={given.out}: {path} would be written in the place of supports, or beside them; give another folder"
            )


def load_network(given: PredictConfig, device: str | None = None) -> Segmenter:
    """The network with the job's settings, nothing fitted.

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
    given: PredictConfig, supports: Supports, queries: Iterable[Query], device: str | None = None
) -> tuple[PredictConfig, Segmenter]:
    """The job with the network's own settings and one scale of deep images, and the network; a support file is fitted.

    Raises:
        ConfigError: as ``load_network``, or an impossible depth.
        DataError: a support file that belongs to another network.
    """
    bits = common_bits(given.bits, queries, supports.shown)
    segmenter = load_network(given, device)
    if not supports.classes:
        segmenter.load_support(given.support)
        _check_classes(given, len(segmenter.classes))
    settings = segmenter.settings | {"fusion": Fusion(segmenter.settings["fusion"])}
    return replace(given, bits=max(bits, segmenter.bits), **settings), segmenter


def find_supports(given: PredictConfig) -> Supports:
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
        log.warning("left out: %s", one_line(line))
    return supports


def _check_classes(given: PredictConfig, count: int) -> None:
    if count > _MAX_CLASSES:
        raise ConfigError(f"support={given.support} has {count} classes, but a palette {_MAX_CLASSES}; give fewer")


def log_passed_over(passed_over: Mapping[Path, str]) -> None:
    """Name the files that are no images, and why."""
    for line in passed_over_lines(passed_over):
        log.warning("%s", one_line(line))


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


def fit(segmenter: Segmenter, supports: Supports, given: PredictConfig) -> tuple[Panels, dict[str, list[float]]]:
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
        titles = [str(support.mask if isinstance(support.mask, Path) else support.file) for support in shown]
        segmenter.fit(name, images, masks, value=given.value, negative=name in supports.negatives, titles=titles)
        shares[name] = []
        for support, image, drawn in zip(shown, images, masks, strict=True):
            mask = read_mask(drawn, given.value)
            shares[name].append(float(mask.mean()))
            title = f"{name}: {support.file.name} {mask.mean():.1%}{', made' if isinstance(support.mask, Marks) else ''}"
            log.info("support %s", one_line(title))
            panels.append((title, small(overlay(image, number * mask.astype(np.uint8)))))
    return panels, shares


def segmented(
    segmenter: Segmenter, queries: Iterable[Query], given: PredictConfig
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


def finished(query: Query, found: Found | DataError, act: Callable[[Query, Found], T]) -> T | DataError:
    """What ``act`` makes of what was found in a query, or what is wrong with either; what ends the whole job is raised.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    if isinstance(found, DataError):
        return found
    try:
        return act(query, found)
    except UserError:
        raise
    except Exception as error:  # the encoders raise almost anything
        return DataError(f"{query.path}: its result cannot be made: {str(error) or type(error).__name__}")


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
