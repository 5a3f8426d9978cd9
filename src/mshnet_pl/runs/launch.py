"""A run's work, in this process or in fresh ones of this machine."""

import logging
import os
import signal
import socket
import warnings
from collections.abc import Mapping
from multiprocessing.connection import Connection, wait
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf

from mshnet_pl.errors import ConfigError, Interrupted, RunFailed, UserError
from mshnet_pl.results import Result
from mshnet_pl.runs.job import Run
from mshnet_pl.runs.processes import end_with_parent, fresh_processes
from mshnet_pl.utils import devices
from mshnet_pl.utils.files import if_unusable
from mshnet_pl.utils.log_lines import escape
from mshnet_pl.utils.signals import end_on_interrupts, passed_on

log = logging.getLogger(__name__)


def here(work: str, run: Run) -> Result:
    """Do the work in this process; ``train`` or ``test``."""
    from mshnet_pl.runs.run import test, train  # only here: composing and starting sweeps needs no PyTorch

    quiet()  # Lightning, once imported, speaks up again
    return {"train": train, "test": test}[work](run)


def process_count(trainer: DictConfig) -> int:
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


def in_processes(work: str, run: Run, processes: int, environment: Mapping[str, str]) -> None:
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
    """What a process of ``in_processes`` raised, if it did and could say so."""
    with reader:
        try:
            return [reader.recv()]
        except (EOFError, OSError):
            return []


def _free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def _process(
    rank: int,
    work: str,
    run: Run,
    processes: int,
    environment: Mapping[str, str],
    logs: tuple[dict[str, Any], bool | str],
    errors: Connection,
) -> None:
    """One of the processes of ``in_processes``; sends it what it raises."""
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
            here(work, run)
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
