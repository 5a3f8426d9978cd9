"""A prediction in parts, for more images than one process or one evening can do: resumed, shared by workers, streamed."""

import logging
import os
import shutil
import signal
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import numpy
import PIL
import torch
from filelock import FileLock
from tqdm import tqdm

from mshnet_pl import __version__
from mshnet_pl.config.commands import PredictConfig
from mshnet_pl.errors import ConfigError, DataError, Interrupted, RunFailed
from mshnet_pl.inference.draw import contact_sheet
from mshnet_pl.inference.query_lists import wanted_files
from mshnet_pl.inference.segmenter import Segmenter
from mshnet_pl.options import Precision
from mshnet_pl.runs.prediction import (
    check,
    check_apart,
    find_supports,
    fit,
    log_passed_over,
    prepared,
    save_png,
)
from mshnet_pl.runs.shard_worker import ShardWorker
from mshnet_pl.runs.shards import Counts, Folder, Plan, count_and_digest, names_of, supports_digest, write_queries
from mshnet_pl.runs.worker_pools import Workers, on_ray, on_this_machine
from mshnet_pl.utils.files import whole_path, write_whole
from mshnet_pl.utils.parquet import parquet
from mshnet_pl.utils.signals import AGAIN, Interruption, interrupted

log = logging.getLogger(__name__)

_SETTINGS = (
    "threshold", "flip", "scales", "fusion", "guided", "zooms", "tile", "value", "bits", "batch_size", "threads",
    "instances", "min_presence", "masks",
)  # fmt: skip
"""Those that change results, if only by rounding."""


def predict_shards(given: PredictConfig) -> Counts:
    """Segment every query into parts of ``out``: Parquet files with a row an object, see ``runs.shard_worker``.

    Parts that are there are kept, so the same command, killed at whatever moment, resumes where it stopped.

    Returns:
        What the parts of this command hold.

    Raises:
        ConfigError: a setting that is impossible, or results of another plan.
        DataError: supports that cannot be used, a list that cannot be read, or a folder that cannot be written.
        RunFailed: a worker ended.
        Interrupted: a signal asked for the end; parts that are done are kept.
    """
    check(given)
    parquet("format=parquet")
    workers, folder = Workers.of(given), Folder(given.out)
    with _threads(given.threads):
        given, plan, segmenter = _planned(given, workers)
        share = workers.share(plan.parts, os.environ)
        left = folder.left(share, given.masks)
        log.info("%s: %s of %s parts are done", given.out, len(share) - len(left), len(share))
        try:
            bar = tqdm(total=sum(map(plan.size, left)), unit="image", disable=None)
            with closing(_work(given, segmenter, workers, left)) as work, Interruption(), bar:
                for number in work:
                    bar.update(plan.size(number))
        except (Interrupted, RunFailed) as end:
            done = len(share) - len(folder.left(share, given.masks))
            said = f"{done} of {len(share)} parts are done in {given.out}"
            again = "The same command without overwrite=true resumes from there." if _begins_anew(given, workers) else AGAIN
            if isinstance(end, Interrupted):
                raise interrupted(signal.Signals(end.code - 128), said, again) from None
            raise RunFailed(f"{end}; {said}. {again}") from end
    counts = sum((Counts.of(folder.part(number)) for number in share), Counts())
    found = ", ".join(f"{name} in {number}" for name, number in counts.found.items())
    said = f"{counts.images} images in {counts.rows} rows; {counts.errors} could not be read; found {found}"
    log.info("%s: %s", given.out, said)
    return counts


def _work(given: PredictConfig, segmenter: Segmenter, workers: Workers, parts: list[int]) -> Generator[int, None, None]:
    """Do the parts, one worker's in this process; gives the number of each that is done."""
    if parts and (workers.kind == "ray" or workers.number > 1):
        return (on_ray if workers.kind == "ray" else on_this_machine)(given, parts, workers.number)
    worker = ShardWorker(given, segmenter.fresh())
    return (worker.write(number) for number in parts)


def _planned(given: PredictConfig, workers: Workers) -> tuple[PredictConfig, Plan, Segmenter]:
    """The plan, made where there is none; the job with its settings; the network."""
    folder = Folder(given.out)
    supports = find_supports(given)
    check_apart(given, supports, folder.results)
    wanted, passed_over = wanted_files(given.query)
    log_passed_over(passed_over | supports.passed_over)
    device = "cpu" if workers.kind == "ray" and not torch.cuda.is_available() else None  # the workers' may lie elsewhere
    given, segmenter = prepared(given, supports, (), device)
    plan = _plan(given, segmenter, workers, wanted, supports_digest(given.support, supports))
    with _locked(folder.path):
        old = _old(folder, given.overwrite)
        if old is None or plan.differences(old) or _begins_anew(given, workers):
            _make_room(folder, plan, old, given.overwrite)
            old = None
        if old is None or not folder.is_prepared:
            with whole_path(folder.queries) as partial:
                write_queries(partial, names_of(wanted, folder.path), given.shard_size)
            panels, _ = fit(segmenter, supports, given)
            segmenter.save_support(folder.support, overwrite=True)
            if panels:
                save_png(contact_sheet(panels), folder.sheet)
            write_whole(folder.plan, plan.content())
    return given, plan, segmenter


def _plan(given: PredictConfig, segmenter: Segmenter, workers: Workers, paths: Iterable[Path], supports: str) -> Plan:
    import pyarrow

    gpu = given.gpus_per_worker > 0 if workers.kind == "ray" else torch.cuda.is_available()
    device = torch.device(given.device or ("cuda" if gpu else "cpu")).type
    libraries = {"torch": torch, "numpy": numpy, "pillow": PIL, "pyarrow": pyarrow}
    return Plan(
        *count_and_digest(names_of(paths, given.out)),
        given.shard_size,
        segmenter.source.sha256 if segmenter.source else "",
        supports,
        {
            **{key: getattr(given, key) for key in _SETTINGS},
            "precision": Precision(given.precision).name,
            "device": device,
        },
        {"mshnet_pl": __version__, **{name: library.__version__ for name, library in libraries.items()}},
    )


def _begins_anew(given: PredictConfig, workers: Workers) -> bool:
    """Whether parts of the same plan go, too; a task of an array would remove those of the others."""
    return given.overwrite and workers.kind != "slurm"


def _old(folder: Folder, overwrite: bool) -> Plan | None:
    try:
        return Plan.read(folder.plan)
    except DataError:
        if overwrite:
            return None
        raise


def _make_room(folder: Folder, plan: Plan, old: Plan | None, overwrite: bool) -> None:
    """Remove the parts that are there, and their plan last: so that an interrupted removal is resumed.

    Raises:
        ConfigError: there are some, and ``overwrite`` is not set.
    """
    there = folder.parts
    if not overwrite and (old or there):
        differences = "\n  ".join(plan.differences(old) if old else [f"{there[0].name}, but no {folder.plan.name}"])
        raise ConfigError(
            f"out={folder.path} holds the parts of another prediction:\n  {differences}\n"
            "Give the same settings to go on with it, another folder, or overwrite=true"
        )
    for part in there:
        part.unlink()
    for place in (folder.masks, folder.plan.parent):
        if place.exists():
            shutil.rmtree(place)


def _locked(out: Path) -> AbstractContextManager[object]:
    """Keep other commands from a folder while its plan is made.

    Raises:
        DataError: it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        return FileLock(out / ".lock").acquire()
    except OSError as error:
        raise DataError(f"out={out} cannot be written: {error.strerror or error}; give another folder") from error


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
