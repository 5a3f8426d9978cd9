"""Masks, overlays and numbers for a folder of images, from a checkpoint and a few masked ones."""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from mshnet_pl import __version__
from mshnet_pl.config.commands import PredictConfig
from mshnet_pl.data.io.marks import Marks
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.inference.annotation_output import CocoFile, Part, labelme, parts
from mshnet_pl.inference.draw import contact_sheet, mask_image, overlay
from mshnet_pl.inference.labels import to_labels
from mshnet_pl.inference.presence import presence
from mshnet_pl.inference.queries import Query, find_queries
from mshnet_pl.inference.segmenter import Segmenter
from mshnet_pl.inference.supports import Supports
from mshnet_pl.options import ResultFormat
from mshnet_pl.runs.prediction import (
    Found,
    Panels,
    check,
    check_apart,
    find_supports,
    finished,
    fit,
    log_passed_over,
    prepared,
    save_mask,
    save_png,
    segmented,
    small,
)
from mshnet_pl.utils.files import write_whole
from mshnet_pl.utils.signals import Interruption

log = logging.getLogger(__name__)

_COCO = "coco.json"
_MAX_PANELS = 100
"""So many queries come onto the contact sheet."""


def predict(given: PredictConfig) -> list[str]:
    """Segment every query into ``out``: ``NAME_mask.png``, ``NAME_overlay.png``, a contact sheet and ``predictions.json``.

    Returns:
        What is wrong with the queries that could not be read, or whose results could not be made.

    Raises:
        ConfigError: a setting that is impossible, files that would be overwritten, or results among the supports.
        DataError: supports that cannot be used, or a folder that cannot be written.
        Interrupted: a signal asked for the end; what is done is recorded.
    """
    check(given)
    queries, passed_over = find_queries(given.query)
    results = [*_overviews(given.out), *_label_files(given, queries), *(p for q in queries for p in _results(given.out, q))]
    _check_out(given, queries, results)
    supports = find_supports(given)
    check_apart(given, supports, results)
    passed_over |= supports.passed_over
    log_passed_over(passed_over)
    given, segmenter = prepared(given, supports, queries)
    shown = fit(segmenter, supports, given)
    with _alone(given.out):
        _check_out(given, queries, results)  # again: another command may have written there meanwhile
        _say_what_stays(given.out, results)
        return _segment_all(given, segmenter, supports, shown, queries, passed_over)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other commands from writing results into the same folder meanwhile.

    Raises:
        ConfigError: one does.
        DataError: the folder cannot be written.
    """
    place = out / ".lock"
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place, timeout=0).acquire()
    except Timeout:
        raise ConfigError(f"out={out}: another command writes into it; let that finish, or give another folder") from None
    except OSError as error:
        raise DataError(f"out={out} cannot be written: {error.strerror or error}; give another folder") from error
    with lock:
        try:
            yield
        finally:
            place.unlink(missing_ok=True)


def _segment_all(
    given: PredictConfig,
    segmenter: Segmenter,
    supports: Supports,
    shown: tuple[Panels, dict[str, list[float]]],
    queries: Sequence[Query],
    passed_over: Mapping[Path, str],
) -> list[str]:
    """The work of ``predict``, once it is known that it can be done; ``shown`` is what ``fit`` gave."""
    sheet, record = _overviews(given.out)
    panels, shares = shown
    max_panels = len(panels) + _MAX_PANELS
    rows: list[dict[str, Any]] = []
    unreadable: list[dict[str, Any]] = []
    coco = CocoFile(given.out / _COCO, segmenter.classes)
    write = partial(_write, given, segmenter.classes, coco)
    with Interruption(waits=True) as interruption:
        for query, found in tqdm(segmented(segmenter, queries, given), total=len(queries), unit="image", disable=None):
            done = finished(query, found, write)
            if isinstance(done, DataError):
                unreadable.append({"file": str(query.path), "page": query.page, "error": str(done)})
                continue
            row, outlined = done
            rows.append(row)
            if len(panels) < max_panels:
                doubtful = "" if any(row["found"].values()) else ", doubtful"
                share = sum(row["area"].values()) / (row["width"] * row["height"])
                panels.append((f"{query.name}: {f'{share:.1%}{doubtful}' if share else 'not found'}", small(outlined)))
            if interruption.signal is not None:
                break
        if panels:
            save_png(contact_sheet(panels), sheet)
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


def _overviews(out: Path) -> tuple[Path, Path]:
    """The contact sheet, and the record of all that was done."""
    return out / "contact_sheet.png", out / "predictions.json"


def _write(
    given: PredictConfig, classes: Sequence[str], coco: CocoFile, query: Query, found: Found
) -> tuple[dict[str, Any], Image.Image]:
    """A query's files, and its objects into ``coco`` where that is wanted; gives its row and its overlay."""
    image, margins = found
    labels = to_labels(margins, given.threshold)
    outlined = overlay(image, labels)
    mask_path, overlay_path = _results(given.out, query)
    save_mask(mask_image(labels, len(margins)), query, mask_path)
    save_png(outlined, overlay_path)
    row, objects = _row(query, classes, labels, margins, given)
    if given.format == ResultFormat.png:
        return row, outlined
    shown = query.path
    if query.page is not None:
        shown = _page(given.out, query)
        save_png(image, shown)
    if given.format == ResultFormat.coco:
        coco.add(shown, *image.size, objects)
    if given.format == ResultFormat.labelme:
        path = _labelme(given.out, query)
        write_whole(path, labelme(path, shown, *image.size, objects))
    return row, outlined


def _check_out(given: PredictConfig, queries: Sequence[Query], results: Sequence[Path]) -> None:
    if os.path.realpath(given.out) in map(os.path.realpath, {query.path.parent for query in queries}):
        raise ConfigError(f"out={given.out} holds queries, and results would be queries the next time; give another folder")
    there = [path for path in results if path.exists()]
    if there and not given.overwrite:
        raise ConfigError(
            f"out={given.out}: {len(there)} of the results are there already, such as {there[0].name}; "
            "give another folder, or overwrite=true, which makes all anew, also after a run that was cut off"
        )


def _say_what_stays(out: Path, results: Sequence[Path]) -> None:
    """Name files that lie among the results and are none, as those of an earlier prediction."""
    ours = {*map(os.path.abspath, [*results, out / ".lock"])}
    there = (path for part in ("*", "labelme/*", "pages/*") for path in sorted(out.glob(part)))
    others = [path for path in there if path.is_file() and os.path.abspath(path) not in ours]
    if others:
        log.warning("out=%s keeps files that are not of this prediction: %d, such as %s", out, len(others), others[0].name)


def _label_files(given: PredictConfig, queries: Sequence[Query]) -> list[Path]:
    if given.format == ResultFormat.png:
        return []
    pages = [_page(given.out, query) for query in queries if query.page is not None]
    if given.format == ResultFormat.labelme:
        return [*pages, *(_labelme(given.out, query) for query in queries)]
    return [*pages, given.out / _COCO]


def _labelme(out: Path, query: Query) -> Path:
    return out / "labelme" / f"{query.name}.json"


def _page(out: Path, query: Query) -> Path:
    """A page as a picture of its own: label tools open a file's first page alone."""
    return out / "pages" / f"{query.name}.png"


def _summary(out: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Where the results are, in how many images an object was found, and how much of those is object."""
    shares = sorted(sum(row["area"].values()) / (row["width"] * row["height"]) for row in rows)
    found = [share for share in shares if share]
    sizes = f": {median(found):.1%} of an image is object (median; {found[0]:.1%} to {found[-1]:.1%})" if found else ""
    return f"{out}: objects found in {len(found)} of {len(rows)} images{sizes}"


def _results(out: Path, query: Query) -> tuple[Path, Path]:
    """Where a query's mask and overlay go."""
    return out / query.mask_name, out / f"{query.name}_overlay.png"


def _row(
    query: Query, classes: Sequence[str], labels: np.ndarray, margins: Tensor, given: PredictConfig
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
            {"class": part.class_name, "box": part.box, "area": part.area, "score": part.score} for part in objects
        ]
    return row, objects


def _record(
    given: PredictConfig,
    segmenter: Segmenter,
    supports: Supports,
    shares: Mapping[str, Sequence[float]],
    rows: Sequence[Any],
    unreadable: Sequence[Any],
    left: int,
) -> dict[str, Any]:
    return {
        "settings": {key: str(value) if isinstance(value, Path) else value for key, value in vars(given).items()},
        "checkpoint_sha256": segmenter.source.sha256 if segmenter.source else None,
        "version": __version__,
        "classes": {name: number for number, name in enumerate(segmenter.classes, start=1)},
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
