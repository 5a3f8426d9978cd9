"""A job of Hydra's: its run once, whoever else is at it, and its table. One of a sweep that fails is recorded."""

import logging
import math
import os
import shlex
import signal
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mshnet_pl import results
from mshnet_pl.errors import ConfigError, DataError, Interrupted, RunFailed, UserError
from mshnet_pl.report import tables, terminal
from mshnet_pl.results import Result
from mshnet_pl.runs import launch, workers
from mshnet_pl.runs.job import Run
from mshnet_pl.utils import devices
from mshnet_pl.utils.signals import is_waiting

log = logging.getLogger(__name__)

SWEEP = "MSHNET_PL_SWEEP"
"""Name of the environment variable that tells a sweep's jobs how many they are, and which settings differ."""
_LINES = "MSHNET_PL_PROGRESS_LINES"
"""See ``training.callbacks.progress``, which needs PyTorch."""
_LOCK = ".lock"
"""In a run's folder, held by the process that is at work there."""


def start(work: str, raw: DictConfig) -> float:
    """Do one of Hydra's jobs and print the table of its result; a finished one only prints.

    A single run with one process is done right here. A job of a sweep gets a fresh process, so that neither its memory nor
    its death is another job's matter; a run with several processes gets those. A job of a sweep that another process is at
    is left to that one: sweeps started twice share their jobs.

    Returns:
        mIoU of the last test, for a sweep's optimiser; NaN for a failed job of a sweep.

    Raises:
        UserError: what the user can mend, of a single run.
        RunFailed: the processes of a single run ended otherwise.
    """
    launch.quiet()
    job = HydraConfig.get()
    os.chdir(job.runtime.cwd)  # a worker of a launcher may have started elsewhere
    folder = Path(job.runtime.output_dir)
    in_sweep = job.mode is RunMode.MULTIRUN
    if workers.is_one():
        workers.end_with_launcher()
        if is_waiting():
            return math.nan
    shared = {}
    if in_sweep:
        total, *swept = os.environ.get(SWEEP, "").split() or ["?"]
        log.info(
            "job %s of %s: %s",
            job.job.num + 1,
            total,
            " ".join(o for o in job.overrides.task if o.partition("=")[0] in swept),
        )
        shared = {} if job.launcher._target_.endswith(".BasicLauncher") else {_LINES: "1"}
    try:
        result = _result(work, Run.of(raw, folder), in_sweep, shared)
    except Interrupted as ended:
        if not workers.is_one():
            raise
        log.warning("%s", ended)  # joblib would kill the other workers, which may not have saved yet
        signal.raise_signal(ended.code - 128)  # it waits, and no further job of this worker is started
        return math.nan
    except Exception as error:
        if not in_sweep:
            raise
        known = isinstance(error, UserError | RunFailed)
        if isinstance(error, _Taken):
            log.warning("%s; it is left to that process", error)
            message = "another process was at work on it, and came to no result"
        else:
            log.error("%s", error, exc_info=None if known else error)
            message = str(error) if known else f"{type(error).__name__}: {error}"
        try:
            results.save_failure(folder, [*job.overrides.task], message, folder / f"{job.job.name}.log")
        except DataError as full:
            log.error("%s", full)
        return math.nan
    print(terminal.shown(tables.scores([result])), flush=True)
    if not in_sweep:
        log.info("%s", _what_next(raw, folder))
    return result.tests[-1].miou


def _what_next(raw: DictConfig, folder: Path) -> str:
    """Where the checkpoint is, and the commands for it."""
    lines, kept = ["next:"], folder / "checkpoints" / f"{raw.test.checkpoint.value}.ckpt"
    if kept.exists():
        path = shlex.quote(os.path.relpath(kept))
        lines = [f"checkpoint: {path}", *lines, f"  mshnet-predict support=DIR query=DIR out=masks \\\n    ckpt={path}"]
    return "\n".join([*lines, f"  mshnet-report {shlex.quote(raw.runs)}"])


def _result(work: str, run: Run, fresh: bool, environment: Mapping[str, str]) -> Result:
    folder = run.folder
    with _alone(folder):
        result = results.finished(folder, run.digest)
        if result is not None:
            log.info("already done: %s", folder / results.FILE)
            if result.data_sha256 is not None:
                _say_if_other_data(run, result.data_sha256)
            return result
        processes = launch.process_count(run.raw.trainer)
        with devices.claim(run.config.gpus, processes) as visible:
            if fresh or processes > 1 or visible:
                of_device = {"CUDA_VISIBLE_DEVICES": visible} if visible else {}
                launch.in_processes(work, run, processes, {**environment, **of_device})
                result = results.load(folder / results.FILE)
            else:
                result = launch.here(work, run)
    results.forget_failure(folder)
    return result


def _say_if_other_data(run: Run, tested: str) -> None:
    """Own images may change between two commands of the same settings."""
    from mshnet_pl.runs import build  # needs PyTorch

    with suppress(UserError):  # they are gone, but their result is not
        if build.make_source(run).content() != tested:
            log.warning(
                "images, masks or lists are not those of this result any more; give another runs=FOLDER, or remove %s, to "
                "measure these",
                run.folder,
            )


class _Taken(ConfigError):
    """Another process is at work in a run's folder."""


def wait_for_others(folder: Path, before: Mapping[Path, bytes]) -> None:
    """Wait while other processes are at work on jobs below ``folder`` that came to no result here."""
    for run in results.failures(folder, before):
        lock = FileLock(run / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("%s: waiting for the process that is at work on it", run)
            lock.acquire()
        lock.release()


def _alone(folder: Path) -> AbstractContextManager[object]:
    """Keep other processes of this machine, or of others that share the file system, away from a run's folder.

    Raises:
        _Taken: another process is at work there.
    """
    if int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))):
        return nullcontext()  # torchrun or srun started these processes, and the first one keeps others away
    try:
        return FileLock(folder / _LOCK, timeout=0).acquire()
    except Timeout:
        raise _Taken(f"{folder}: another process is at work on this run; let it finish, or stop it first") from None
