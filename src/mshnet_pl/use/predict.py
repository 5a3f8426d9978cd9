"""``mshnet-predict``: masks, overlays and numbers for a folder of images, from a checkpoint and a few masked images."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from mshnet_pl import __version__
from mshnet_pl.arguments import parse
from mshnet_pl.data.own_images import read_image, read_mask
from mshnet_pl.errors import ConfigError, DataError, UserError
from mshnet_pl.labels import least_margin, to_labels
from mshnet_pl.results import sha256
from mshnet_pl.segmenter import Segmenter
from mshnet_pl.tiles import check_tile
from mshnet_pl.use.draw import SIDE, contact_sheet, mask_image, overlay
from mshnet_pl.use.queries import Query, find_queries
from mshnet_pl.use.supports import Support, read_supports

USAGE = (
    "mshnet-predict ckpt=FILE support=DIR query=DIR|FILE|PATTERN out=DIR "
    "[threshold=0.5] [guided=0.09] [tile=PIXELS] [value=PIXEL_VALUE] [batch_size=8] [device=cpu|cuda] [overwrite=true]"
)
_KNOWN = {key: True for key in ("ckpt", "support", "query", "out")} | {
    key: False for key in ("threshold", "guided", "tile", "value", "batch_size", "device", "overwrite")
}
_MOST_CLASSES = 255
"""So many colours a palette has besides the background's."""
_MOST_PANELS = 100
"""So many queries come onto the contact sheet."""


def main() -> None:
    """``mshnet-predict``: exit code 2 for what cannot work, 1 where some queries could not be read."""
    parser = argparse.ArgumentParser(prog="mshnet-predict", description=__doc__, usage=USAGE)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="see README.md, Segment your own images")
    try:
        unreadable = predict(parser.parse_args().settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if unreadable:
        heading = f"{len(unreadable)} queries could not be read:"
        print(DataError.listing(heading, unreadable, "All others are done.", most=len(unreadable)), file=sys.stderr)
        raise SystemExit(1)


class _Settings(NamedTuple):
    ckpt: Path
    support: Path
    query: str
    out: Path
    threshold: float
    guided: float | None
    tile: int | None
    value: int | None
    batch_size: int
    device: str | None
    overwrite: bool


def predict(settings: Sequence[str]) -> list[str]:
    """Segment every query into ``out``: ``NAME_mask.png``, ``NAME_overlay.png``, a contact sheet and ``predictions.json``.

    Args:
        settings: as on the command line.

    Returns:
        What is wrong with the queries that could not be read.

    Raises:
        ConfigError: a setting that is unknown, missing or impossible, or files that would be overwritten.
        DataError: supports that cannot be used, or a folder that cannot be written.
    """
    given = _parse(settings)
    queries = find_queries(given.query)
    sheet, record = given.out / "contact_sheet.png", given.out / "predictions.json"
    _check_out(given, queries, [sheet, record, *(path for query in queries for path in _results(given.out, query))])
    supports = read_supports(given.support)
    _check_supports(given, supports)
    segmenter = Segmenter.from_checkpoint(given.ckpt, given.device, given.batch_size, guided=given.guided)
    given = given._replace(guided=segmenter.guided)
    panels = []
    for number, (name, shown) in enumerate(supports.items(), start=1):
        segmenter.fit(name, [s.image for s in shown], [s.mask for s in shown], value=given.value)
        panels += [(f"{name}: {s.image.name}", _small(_drawn(s, number, given.value))) for s in shown]
    most = len(panels) + _MOST_PANELS
    rows: list[dict[str, Any]] = []
    unreadable: list[dict[str, Any]] = []
    try:
        given.out.mkdir(parents=True, exist_ok=True)
        segmented = _segmented(segmenter, queries, given, unreadable)
        for query, image, wins in tqdm(segmented, total=len(queries), unit="image", disable=None):
            labels = to_labels(wins, given.threshold)
            mask, drawn = mask_image(labels, len(wins)), overlay(image, labels)
            for path, picture in zip(_results(given.out, query), (mask, drawn), strict=True):
                picture.save(path)
            rows.append(_row(query, segmenter.classes, labels, wins))
            if len(panels) < most:
                panels.append((query.name, _small(drawn)))
        contact_sheet(panels).save(sheet)
        record.write_text(json.dumps(_record(given, supports, rows, unreadable), indent=1) + "\n")
    except OSError as error:
        raise DataError(f"out={given.out}: {error}; make room, or give another folder") from error
    return [str(row["error"]) for row in unreadable]


def _parse(settings: Sequence[str]) -> _Settings:
    values = parse(settings, _KNOWN, USAGE)
    if values.get("overwrite", "false") not in ("true", "false"):
        raise ConfigError(f"overwrite={values['overwrite']}: give true or false")
    given = _Settings(
        ckpt=Path(values["ckpt"]).expanduser(),
        support=Path(values["support"]).expanduser(),
        query=values["query"],
        out=Path(values["out"]).expanduser(),
        threshold=_number(values, "threshold", float, 0.5),
        guided=_number(values, "guided", float, None),
        tile=_number(values, "tile", int, None),
        value=_number(values, "value", int, None),
        batch_size=_number(values, "batch_size", int, 8),
        device=values.get("device"),
        overwrite=values.get("overwrite") == "true",
    )
    least_margin(given.threshold)
    check_tile(given.tile)
    return given


def _number(values: Mapping[str, str], key: str, kind: Callable[[str], Any], default: Any) -> Any:  # noqa: ANN401
    try:
        return kind(values[key]) if key in values else default
    except ValueError as error:
        raise ConfigError(f"{key}={values[key]}: give {'a number' if kind is float else 'a whole number'}") from error


def _check_out(given: _Settings, queries: Sequence[Query], results: Sequence[Path]) -> None:
    if given.out.resolve() in {query.path.parent.resolve() for query in queries}:
        raise ConfigError(f"out={given.out} holds queries, and results would be queries the next time; give another folder")
    there = [path for path in results if path.exists()]
    if there and not given.overwrite:
        raise ConfigError(
            f"out={given.out}: {len(there)} of the results are there already, such as {there[0].name}; "
            "give another folder, or overwrite=true"
        )


def _check_supports(given: _Settings, supports: Mapping[str, Sequence[Support]]) -> None:
    if len(supports) > _MOST_CLASSES:
        raise ConfigError(f"support={given.support} has {len(supports)} classes, but a palette {_MOST_CLASSES}; give fewer")
    if given.value is not None and not all(isinstance(s.mask, Path) for shown in supports.values() for s in shown):
        raise ConfigError(f"value={given.value} is for masks that are label maps, but support={given.support} has outlines")


def _results(out: Path, query: Query) -> tuple[Path, Path]:
    """Where a query's mask and overlay go."""
    return out / f"{query.name}_mask.png", out / f"{query.name}_overlay.png"


def _segmented(
    segmenter: Segmenter, queries: Sequence[Query], given: _Settings, unreadable: list[dict[str, Any]]
) -> Iterator[tuple[Query, Image.Image, Tensor]]:
    """Every query that can be read, its image and its margins; what is wrong with the others goes to ``unreadable``."""
    for start in range(0, len(queries), given.batch_size):
        read = []
        for query in queries[start : start + given.batch_size]:
            try:
                read.append((query, query.read()))
            except DataError as error:
                unreadable.append({"file": str(query.path), "page": query.page, "error": str(error)})
        for (query, image), wins in zip(read, segmenter.margins([image for _, image in read], given.tile), strict=True):
            yield query, image, wins


def _row(query: Query, classes: Sequence[str], labels: np.ndarray, wins: Tensor) -> dict[str, Any]:
    """Sizes in pixels; mean foreground probabilities over the image, and over the object's pixels (None without any)."""
    mask, drawn = _results(Path(), query)
    probabilities = wins.sigmoid().cpu().numpy()
    inside = {name: labels == number for number, name in enumerate(classes, start=1)}
    found = [(name, part, p) for (name, part), p in zip(inside.items(), probabilities, strict=True)]
    return {
        "file": str(query.path),
        "page": query.page,
        "mask": str(mask),
        "overlay": str(drawn),
        "width": labels.shape[1],
        "height": labels.shape[0],
        "area": {name: int(part.sum()) for name, part in inside.items()},
        "mean_probability": {name: float(p.mean(dtype=np.float64)) for name, _, p in found},
        "mean_probability_inside": {
            name: float(p[part].mean(dtype=np.float64)) if part.any() else None for name, part, p in found
        },
    }


def _record(
    given: _Settings, supports: Mapping[str, Sequence[Support]], rows: Sequence[Any], unreadable: Sequence[Any]
) -> dict[str, Any]:
    return {
        "settings": {key: str(value) if isinstance(value, Path) else value for key, value in given._asdict().items()},
        "checkpoint_sha256": sha256(given.ckpt),
        "version": __version__,
        "classes": {name: number for number, name in enumerate(supports, start=1)},
        "supports": {
            name: [{"image": str(s.image), "mask": str(s.mask) if isinstance(s.mask, Path) else None} for s in shown]
            for name, shown in supports.items()
        },
        "predictions": rows,
        "unreadable": unreadable,
    }


def _drawn(support: Support, number: int, value: int | None) -> Image.Image:
    return overlay(read_image(support.image), number * read_mask(support.mask, value).astype(np.uint8))


def _small(picture: Image.Image) -> Image.Image:
    picture.thumbnail((SIDE, SIDE))
    return picture
