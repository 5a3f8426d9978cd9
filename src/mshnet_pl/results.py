"""Result files: what was measured, on which episodes, with which configuration, versions and code."""

import csv
import gzip
import hashlib
import io
import json
import logging
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.utils.files import find_files, write_whole
from mshnet_pl.utils.hashing import sha256
from mshnet_pl.utils.records import as_record, check_type, read_json

log = logging.getLogger(__name__)

FORMAT = 1
METRIC = 1
"""Version of how scores are computed; another one gives other numbers from the same predictions."""
FILE = "result.json"
FAILURE = "error.json"
_PACKAGES = ("mshnet_pl", "torch", "torchvision", "pytorch-lightning", "torchmetrics", "hydra-core", "numpy", "timm")
EPISODE_IMAGES = "episodes/{}.json.gz"
"""File with the images of a set of episodes, by the SHA-256 that identifies the set."""
COUNTS = ("number", "class_id", "intersection", "predicted", "true", "known")


@dataclass(frozen=True)
class Measurement:
    """Scores, in percent, of one set of episodes."""

    weights: str
    """``best``, ``last``, ``untrained``, ``start`` (what fine-tuning began with) or ``training-free``."""
    shot: int
    seed: int
    protocol: str
    resolution: str
    episodes: int
    episodes_sha256: str
    seconds: float
    miou: float
    fb_iou: float
    foreground_iou: float
    background_iou: float
    class_iou: dict[str, float]
    intersection: dict[str, int]
    union: dict[str, int]
    everything_foreground_miou: float
    counts_sha256: str | None = None
    """Of the file with the episodes' pixel counts."""
    pictures_sha256: str | None = None
    """Of the file with pictures of episodes, where this test has one."""
    query_images: int | None = None
    """Distinct images that are queries; None where a file does not say it."""
    support_images: int | None = None
    """Distinct images that are supports."""
    controls: dict[str, float] | None = None
    """Of control episodes, by the names of ``report.controls.MEASURES``, in percent; None where none were tested."""


@dataclass(frozen=True)
class Training:
    """One training that a network's weights went through."""

    data: str
    """What the data are called: ``Coco20i``; of one's own images also their folder's name."""
    fold: int | str | None
    """None where nobody knows."""
    classes: list[str] | None
    """The classes that were trained; None where nobody knows."""
    tuned: bool = False
    """Whether it started from the weights of the training before (``init_from``)."""


@dataclass(frozen=True)
class Result:
    """Everything that a run writes down."""

    command: str
    config_hash: str
    config: dict[str, Any]
    novel: list[str]
    splits: str
    removed_images: int
    learnable_parameters: int
    training: dict[str, Any]
    tests: list[Measurement]
    wall_seconds: float
    date: str
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    git: str | None = None
    format: int = FORMAT
    bad_files: dict[str, str] = field(default_factory=dict)
    """Images that episodes went without, by name, and why."""
    metric: int = 1
    """See ``METRIC``; 1 where a file does not say it."""
    data_sha256: str | None = None
    """Of one's own images, masks and lists; None of a benchmark's, and where a file does not say it."""
    content_sha256: str | None = None
    """Of everything else in the file, as it was written."""


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape a result."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from its sources, which pip did not install
        return "from sources"


@cache
def git_revision() -> str | None:
    """The package's git revision, with ``+changes`` where the work tree differs; None where it is no checkout of it.

    That of the first call: what a process runs does not change with the work tree.
    """
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if not git("ls-files", Path(__file__).name):  # installed into somebody else's repository
            return None
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", str(folder)) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def machine(device: str) -> dict[str, Any]:
    """What the run ran on: ``cpu`` or a GPU, ``cuda:0`` and the like."""
    import torch  # only here: it takes seconds

    on_gpu = device.startswith("cuda") and torch.cuda.is_available()
    return {
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpus": os.cpu_count(),
        "device": device,
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }


def finished(folder: Path, config_hash: str) -> Result | None:
    """The result that ``folder`` already holds for this configuration, or None.

    Raises:
        ConfigError: it holds a result of another configuration.
    """
    path = folder / FILE
    if not path.exists():
        return None
    result = load(path)
    if result.config_hash != config_hash:
        raise ConfigError(
            f"{path} is the result of another configuration ({result.config_hash[:10]}, this one is {config_hash[:10]}); "
            "nothing is overwritten: choose another folder"
        )
    return result


def load(path: Path) -> Result:
    """Read a result file.

    Raises:
        ConfigError: it is no result file of this format.
    """
    try:
        content = read_json(path)
        check_type("tests", content["tests"], list[Any])
        tests = [as_record(Measurement, test) for test in content["tests"]]
        result = as_record(Result, {**content, "tests": tests})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path} is not a result file: {error}; move it away") from error
    if result.format != FORMAT:
        raise ConfigError(f"{path} has format {result.format}, this version reads {FORMAT}; use the version that wrote it")
    return result


def save(folder: Path, result: Result) -> Path:
    """Write a result file, whole or not at all.

    Raises:
        ConfigError: the folder holds a result of another configuration.
        DataError: the disk is full.
    """
    finished(folder, result.config_hash)
    path = folder / FILE
    content = asdict(result) | {"content_sha256": None}
    content["content_sha256"] = _digest(content)
    write_whole(path, f"{json.dumps(content, indent=1)}\n".encode())
    return path


def content_digest(path: Path) -> str:
    """SHA-256 of what a result file says now, to compare with its ``content_sha256``."""
    return _digest(read_json(path))


def _digest(content: dict[str, Any]) -> str:
    plain = json.loads(json.dumps({**content, "content_sha256": None}))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Failure:
    """A job of a sweep that came to no result."""

    overrides: list[str]
    error: str
    log: str
    date: str


def save_failure(folder: Path, overrides: list[str], error: str, log: Path) -> None:
    """Note in a run's folder why it came to no result.

    Raises:
        DataError: the disk is full.
    """
    failure = Failure(overrides, error, str(log), datetime.now(UTC).isoformat())
    write_whole(folder / FAILURE, f"{json.dumps(asdict(failure), indent=1)}\n".encode())


def forget_failure(folder: Path) -> None:
    """A run that came to its result after all."""
    (folder / FAILURE).unlink(missing_ok=True)


def failure_files(folder: Path) -> dict[Path, bytes]:
    """What failed jobs below ``folder`` left, by path; each differs from any other, as it tells its microsecond."""
    found = {}
    for path in find_files(folder, FAILURE):
        with suppress(FileNotFoundError, IsADirectoryError):  # its job begins again this moment
            found[path] = path.read_bytes()
    return found


def failures(folder: Path, before: Mapping[Path, bytes]) -> dict[Path, Failure]:
    """The jobs below ``folder`` that failed since and have no result, by their folders; damaged files are passed over.

    Args:
        folder: of the sweep.
        before: ``failure_files`` at its start. The clocks of the machines that share it may differ.
    """
    found = {}
    for path, content in failure_files(folder).items():
        if before.get(path) != content and not path.with_name(FILE).exists():
            try:
                found[path.parent] = load_failure(path)
            except DataError as error:
                log.warning("%s", error)
    return found


def load_failure(path: Path) -> Failure:
    """Read what ``save_failure`` wrote.

    Raises:
        DataError: it is no such file.
    """
    try:
        failure = as_record(Failure, read_json(path))
        if datetime.fromisoformat(failure.date).tzinfo is None:
            raise ValueError(f"date is {failure.date!r}, expected one with a time zone")
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} does not describe a failed run: {error}; move it away") from error
    return failure


def save_counts(path: Path, counts: Iterable[Sequence[int]]) -> str:
    """Write every episode's pixel counts as CSV: what intervals and paired comparisons are computed from.

    Returns:
        The file's SHA-256.

    Raises:
        DataError: the disk is full.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COUNTS)
    writer.writerows(counts)
    write_whole(path, text.getvalue().encode())
    return sha256(path)


def save_episode_images(folder: Path, content: bytes) -> None:
    """Write the names of episodes' images: which of them share one is what intervals rest on.

    Raises:
        DataError: the disk is full.
    """
    path = folder / EPISODE_IMAGES.format(hashlib.sha256(content).hexdigest())
    if not path.exists():
        write_whole(path, gzip.compress(content, mtime=0))
