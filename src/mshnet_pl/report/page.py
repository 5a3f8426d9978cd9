"""One self-contained HTML page of everything that was collected."""

import base64
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from mshnet_pl.errors import ConfigError
from mshnet_pl.report import charts
from mshnet_pl.report.classes import class_scores
from mshnet_pl.report.collection import CollectedRuns, FailedRun, curves
from mshnet_pl.report.config_names import backbone
from mshnet_pl.report.episode_images import Behind
from mshnet_pl.report.figures import EpisodePicture, episode_pictures
from mshnet_pl.report.formats import Table
from mshnet_pl.report.measured import Measured
from mshnet_pl.report.row import Cell, Row
from mshnet_pl.report.tables import INTERVALS, TITLES, learned
from mshnet_pl.utils.targets import network_name

_SIDE = 288  # pixels of a picture: a click enlarges it
_GENERATOR = '<meta name="generator" content="mshnet-report">'


class _Episode(NamedTuple):
    """A recorded episode in the page."""

    where: str
    picture: EpisodePicture
    panels: list[tuple[str, str]]
    """Titles and images as data URLs."""


def check_target(path: Path) -> None:
    """Whether a page may be written there.

    Raises:
        ConfigError: a file is there that is no earlier page.
    """
    if path.exists() and (not path.is_file() or _GENERATOR not in path.read_text(errors="replace")[:1000]):
        raise ConfigError(f"{path} is no page of mshnet-report and is not overwritten; choose another file, html=FILE")


def render(
    tables: Sequence[Table],
    found: CollectedRuns,
    failures: Sequence[FailedRun],
    noticed: Sequence[str],
    each: int,
    photographs: bool = True,
) -> str:
    """The page as HTML: scripts, styles and pictures inside, nothing to fetch.

    Args:
        tables: as printed.
        found: what they were made of.
        failures: those that no table names.
        noticed: what a reader should know of the results.
        each: episodes of a kind (best, median, worst) shown of each test.
        photographs: False shows masks alone.
    """
    shown = learned(tables)
    tests = [_provenance(measured) for measured in found.tests]
    common = _common(tests)
    versions: dict[str, int] = defaultdict(int)
    for result in found.results:
        versions[" · ".join(f"{name} {version}" for name, version in result.versions.items())] += 1
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files("mshnet_pl.report") / "page.html.j2").read_text())
    return template.render(
        generator=Markup(_GENERATOR),
        tables=tables,
        failures=failures,
        noticed=noticed,
        intervals=INTERVALS,
        curves=list(_curves([row for row in shown if row.is_trained])),
        bars=list(_bars(shown)),
        episodes=list(_episodes(shown, each, photographs)),
        common=common,
        tests=[{name: value for name, value in test.items() if name not in common} for test in tests],
        versions=versions,
        newest=max((measured.result.date for measured in found.tests), default=""),
    )


def _curves(rows: Sequence[Row]) -> Iterator[tuple[str, list[Markup]]]:
    """Charts of a row and number of shots in training, its folds and seeds overlaid; a run is drawn once."""
    drawn: set[Path] = set()
    for row in rows:
        runs: dict[int, list[tuple[str, charts.Curves]]] = defaultdict(list)
        for cell in row.cells:
            for result, _, folder in row.tests[cell].values():
                if result.command == "train" and folder and folder not in drawn and (logged := curves(folder)):
                    drawn.add(folder)
                    runs[result.config["shot"]].append((f"fold {cell.fold}", logged))
        for shot, group in sorted(runs.items()):
            title = f"{row.name}, {shot}-shot training"
            yield title, [Markup(chart) for chart in charts.training_curves(group, title)]


def _bars(rows: Sequence[Row]) -> Iterator[tuple[str, Markup]]:
    """A chart a data set and number of shots."""
    for found in class_scores(rows):
        title = f"{TITLES.get(found.data, found.data)}, {found.shot}-shot"
        yield title, Markup(charts.class_bars(found.classes, found.scores, f"IoU of every class, {title}"))


def _episodes(rows: Sequence[Row], each: int, photographs: bool) -> Iterator[tuple[str, list[_Episode]]]:
    """Recorded episodes of the first seeds of every row, number of shots and fold."""
    for row in rows:
        for shot in row.shots:
            shown = []
            for fold in row.folds(shot):
                tests = row.tests[Cell(shot, fold)]
                measured = tests[min(tests)]
                for picture in episode_pictures(measured, each, photographs):
                    where = ", ".join(filter(None, (f"fold {fold}", measured.class_names.get(picture.class_id))))
                    shown.append(_Episode(where, picture, [(title, _data_url(image)) for title, image in picture.panels]))
            if shown:
                yield f"{row.label}, {shot}-shot", shown


def _data_url(image: UInt8[np.ndarray, "height width 3"]) -> str:
    file = io.BytesIO()
    picture = Image.fromarray(image)
    picture.thumbnail((_SIDE, _SIDE))
    picture.save(file, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _common(tests: Sequence[dict[str, str | int | float]]) -> dict[str, str | int | float]:
    """What is the same of all of several tests, empty values apart."""
    if len(tests) < 2:
        return {}
    return {name: value for name, value in tests[0].items() if all(test[name] == value for test in tests[1:])}


def _provenance(measured: Measured) -> dict[str, str | int | float]:
    """What is known of a test, by column."""
    result, test, images = measured.result, measured.test, measured.images
    behind = Behind.of([images]) if images else ("", "")
    return {
        "method": f"{network_name(result.config)}, {backbone(result.config)}",
        "weights": test.weights,
        "fold": result.config["fold"],
        "shot": test.shot,
        "training seed": int(result.config["seed"]),
        "test seed": test.seed,
        "mIoU": test.miou,
        "episodes": test.episodes,
        **dict(zip(("query images", "support images"), behind, strict=True)),
        "episodes' SHA-256": test.episodes_sha256,
        "protocol": test.protocol,
        "resolution": test.resolution,
        "novel pixels": result.config["data"]["novel_pixels"],
        "splits": result.splits,
        "validated on": result.training.get("val_classes") or "",
        "steps": result.training.get("steps", ""),
        "git": result.git or "",
        "device": result.machine.get("gpu") or result.machine.get("device", ""),
        "date": result.date[:16].replace("T", " "),
        "folder": "/".join(measured.folder.parts[-3:]) if measured.folder else "",
    }
