"""What runs left behind: results, failures, episode counts, training curves."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from mshnet_pl import results
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.options import EVERY_FOLD
from mshnet_pl.report import verification
from mshnet_pl.report.measured import Measured
from mshnet_pl.results import Result, Training
from mshnet_pl.utils.files import find_files
from mshnet_pl.utils.records import as_record, check_type

_CONFIG: Mapping[str, Any] = {
    "fold": int | str,
    "shot": int,
    "seed": int,
    "data": {"source": {"_target_": str}, "novel_pixels": str},
    "model": {"_target_": str, "similarities?": dict[str, Any] | list[str]},
    "backbone": {"_target_": str},
    "eval?": dict[str, Any],
    "trainer?": dict[str, Any] | None,
}
"""The settings that a report reads; those with a question mark may be absent."""
_LOG = "mshnet.log"
"""In the folder of every run; that of a training has checkpoints beside it."""
_TRAINING: Mapping[str, Any] = {
    "trainings?": list[dict[str, Any]],
    "tested_on?": str,
    "tested_classes_trained?": list[str],
    "tested_classes?": int,
    "data?": str | None,
    "shot?": int | None,
    "checkpoint_sha256?": str | None,
    "steps?": int,
    "planned_steps?": int,
}


@dataclass(frozen=True)
class FailedRun(results.Failure):
    """A job of a sweep that came to no result, and where."""

    folder: Path

    @property
    def settings(self) -> dict[str, str]:
        """The overrides by name."""
        return dict(setting.lstrip("+").split("=", 1) for setting in self.overrides if "=" in setting)

    @property
    def message(self) -> str:
        """The error's first line and where to read on."""
        return f"{(self.error.strip() or 'no message').splitlines()[0]} (log: {self.log})"


class CollectedRuns(NamedTuple):
    """Everything below some folders."""

    tests: list[Measured]
    failures: list[FailedRun]
    unfinished: list[Path]
    """Folders of trainings that came to neither a result nor a failure."""

    @property
    def results(self) -> list[Result]:
        """Each once."""
        return list({id(measured.result): measured.result for measured in self.tests}.values())


def collect(folders: Iterable[Path]) -> CollectedRuns:
    """All results and failures below ``folders``; a folder with a result is finished, whatever failed before.

    Raises:
        DataError: there is none, a damaged failure, or results whose numbers cannot be right.
        ConfigError: a damaged result.
    """
    folders = list(folders)
    if gone := [str(folder) for folder in folders if not folder.is_dir()]:
        raise DataError(f"{', '.join(gone)}: no such folder; give one with results of mshnet-train or mshnet-test")
    paths, failed = (
        sorted({path for folder in folders for path in find_files(folder, name)}) for name in (results.FILE, results.FAILURE)
    )
    failures = [
        FailedRun(**asdict(results.load_failure(path)), folder=path.parent)
        for path in failed
        if not path.with_name(results.FILE).exists()
    ]
    if not paths and not failures:
        raise DataError(f"no {results.FILE} below {', '.join(map(str, folders))}; run mshnet-train first")
    loaded = [(_load(path), path.parent) for path in paths]
    tests = [Measured(result, test, folder) for result, folder in loaded for test in result.tests]
    problems = [problem for result, folder in loaded for problem in verification.wrong(result, folder)]
    if problems:
        way_out = "Move these folders away and run their commands again: a result has to be as it was written."
        raise DataError.listing("results that cannot be right:", problems, way_out)
    told = {path.parent for path in (*paths, *failed)}
    begun = {path.parent for folder in folders for path in find_files(folder, _LOG)}
    unfinished = sorted(folder for folder in begun - told if (folder / "checkpoints").is_dir())
    return CollectedRuns(tests, failures, unfinished)


def curves(folder: Path) -> dict[str, Float64[np.ndarray, "points 2"]]:
    """The logged losses and mIoU of a run by name, (step, value) each; empty where nothing was logged.

    Raises:
        DataError: a damaged file.
    """
    path = folder / "log" / "metrics.csv"
    found: dict[str, list[tuple[float, float]]] = {}
    try:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                for name, value in row.items():
                    if value and (name.startswith("train/loss") or name in ("train/miou", "val/miou")):
                        found.setdefault(name, []).append((float(row["step"]), float(value)))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path} does not hold what was logged: {error}; move it away to go without curves") from error
    return {name: np.array(points) for name, points in found.items()}


def _load(path: Path) -> Result:
    """A result with the settings that a report reads.

    Raises:
        ConfigError: it is no result file, or such a setting is missing or of another type.
    """
    result = results.load(path)
    try:
        _check("config", result.config, _CONFIG)
        _check("training", result.training, _TRAINING)
        if isinstance(result.config["fold"], str) and result.config["fold"] != EVERY_FOLD:
            raise TypeError(f"config.fold is {result.config['fold']!r:.50}, expected a number or {EVERY_FOLD}")
        for one in result.training.get("trainings", ()):
            as_record(Training, one)
    except TypeError as error:
        raise ConfigError(f"{path} is not a result file: {error}; move it away") from error
    return result


def _check(name: str, value: Any, shape: Mapping[str, Any]) -> None:  # noqa: ANN401 - parsed JSON
    check_type(name, value, dict[str, Any])
    for key, part in shape.items():
        plain = key.removesuffix("?")
        if isinstance(part, dict):
            _check(f"{name}.{plain}", value.get(plain), part)
        elif plain in value or plain == key:
            check_type(f"{name}.{plain}", value.get(plain), part)
