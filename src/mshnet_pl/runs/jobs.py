"""Starting a run: in this process or in fresh ones. A job of a sweep that fails is recorded and does not end the sweep."""

import logging
import math
import os
import shlex
import signal
import socket
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mshnet_pl import results
from mshnet_pl.errors import ConfigError, DataError, Interrupted, RunFailed, UserError
from mshnet_pl.report import tables, terminal
from mshnet_pl.results import Result
from mshnet_pl.runs import workers
from mshnet_pl.runs.job import Run
from mshnet_pl.runs.processes import end_with_parent, fresh_processes
from mshnet_pl.utils import devices
from mshnet_pl.utils.files import if_unusable
from mshnet_pl.utils.log_lines import escape
from mshnet_pl.utils.signals import end_on_interrupts, is_waiting, passed_on

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
    quiet()
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
            return result
        processes = _count(run.raw.trainer)
        with devices.claim(run.config.gpus, processes) as visible:
            if fresh or processes > 1 or visible:
                of_device = {"CUDA_VISIBLE_DEVICES": visible} if visible else {}
                _in_processes(work, run, processes, {**environment, **of_device})
                result = results.load(folder / results.FILE)
            else:
                result = _do(work, run)
    results.forget_failure(folder)
    return result


def _do(work: str, run: Run) -> Result:
    """The work itself, in this process."""
    from mshnet_pl.runs.run import test, train  # only here: composing and starting sweeps needs no PyTorch

    quiet()  # Lightning, once imported, speaks up again
    return {"train": train, "test": test}[work](run)


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


def _in_processes(work: str, run: Run, processes: int, environment: Mapping[str, str]) -> None:
    """Do the work in fresh processes of this machine, which know of each other as torchrun's would.

    Raises:
        UserError: as one of them raised it.
        RunFailed: one of them ended otherwise.
        Interrupted: a signal asked for the end.
    """
    job = HydraConfig.get()
    context: Any = fresh_processes()
    logs = OmegaConf.to_container(job.job_logging, resolve=True), job.verbose
    shared = {**os.environ, **environment}
    if processes > 1:
        shared |= {"WORLD_SIZE": str(processes), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port()}
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    ranks = [
        context.Process(target=_process, args=(rank, work, run, processes, shared, logs, writer))
        for rank, (_, writer) in enumerate(pipes)
    ]
    errors: list[BaseException] = []
    try:
        for process, (_, writer) in zip(ranks, pipes, strict=True):
            process.start()
            writer.close()
        running = {process.sentinel: process for process in ranks}
        readers = [reader for reader, _ in pipes]
        with passed_on(ranks) as interruption:
            while running and not any(process.exitcode for process in ranks):
                for ready in wait([*running, *readers]):
                    if ready in running:
                        running.pop(ready).join()
                    else:  # read at once: a process cannot end before a long message has left it
                        errors += _received(readers.pop(readers.index(ready)))
    finally:  # the others would wait for one that failed
        for process in ranks:
            if process.pid is not None:
                process.kill()
                process.join()
    failed = next((process for process in ranks if process.exitcode and process.exitcode != -signal.SIGKILL), ranks[0])
    errors += [error for reader in readers for error in _received(reader)]
    if errors:
        raise errors[0]
    if failed.exitcode and interruption.signal:
        raise interruption.ended("nothing was under way yet")
    if failed.exitcode:
        how = f"exit code {failed.exitcode}" if failed.exitcode > 0 else signal.Signals(-failed.exitcode).name
        memory = "; out of memory, perhaps" if failed.exitcode == -signal.SIGKILL else ""
        raise RunFailed(f"its process ended with {how} ({run.folder}){memory}")


def _received(reader: Connection) -> list[BaseException]:
    """What a process of ``_in_processes`` raised, if it did and could say so."""
    with reader:
        try:
            return [reader.recv()]
        except (EOFError, OSError):
            return []


def _free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def _count(trainer: DictConfig) -> int:
    """How many processes of this machine a run needs; 1 where torchrun or srun has started them already.

    Raises:
        ConfigError: several machines without a launcher.
    """
    if "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        return 1
    nodes = trainer.get("num_nodes", 1)
    if nodes > 1:
        raise ConfigError(
            f"trainer.num_nodes={nodes}: several machines need a launcher; start the command on each by "
            "torchrun --nnodes=... --nproc-per-node=... or by srun"
        )
    wanted = trainer.get("devices", 1)
    if OmegaConf.is_list(wanted):
        return len(wanted)
    if str(wanted) in ("auto", "-1"):
        return 1 if trainer.get("accelerator") == "cpu" else max(devices.count(), 1)
    return int(wanted) if isinstance(wanted, int) else 1


def _process(
    rank: int,
    work: str,
    run: Run,
    processes: int,
    environment: Mapping[str, str],
    logs: tuple[dict[str, Any], bool | str],
    errors: Connection,
) -> None:
    """One of the processes of ``_in_processes``; sends it what it raises."""
    end_on_interrupts()  # until the work takes signals
    end_with_parent()
    os.environ.update(environment)
    os.environ.pop("SLURM_NTASKS", None)  # Lightning would count SLURM's tasks instead of these processes
    if processes > 1:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
    configure_log(OmegaConf.create(logs[0]), logs[1])
    if rank:
        logging.getLogger().setLevel(logging.ERROR)
    quiet()
    try:
        try:
            _do(work, run)
        except OSError as error:
            raise if_unusable(error) from error
    except UserError as error:
        errors.send(error)
        raise SystemExit(2) from None
    except Interrupted as interrupted:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it may come twice, from the terminal and from the parent
        errors.send(interrupted)
        raise SystemExit(interrupted.code) from None
    except Exception as error:
        log.exception("the run failed")
        errors.send(RunFailed(f"{type(error).__name__}: {error} ({run.folder})"))
        raise SystemExit(1) from None


def quiet() -> None:
    """Silence other libraries about choices that this project makes on purpose, and about lines lost to a full disk.

    What is logged steers no terminal either.
    """
    logging.raiseExceptions = False
    escape(logging.getLogger().handlers)
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        "does not have many workers",
        r"Checkpoint directory .* exists and is not empty",
        "The dirpath has changed",  # a run that continues another's checkpoint
        r"module\(s\) in eval mode",  # the frozen backbone
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning 2.6 on torch 2.15
    ):
        warnings.filterwarnings("ignore", f".*{message}")
