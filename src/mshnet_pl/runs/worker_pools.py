"""Who does the parts of a prediction: processes of this machine, actors of Ray Data, or this task of a SLURM array."""

import logging
import os
import re
import signal
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import torch

from mshnet_pl.config.commands import PredictConfig
from mshnet_pl.errors import ConfigError, RunFailed, UserError
from mshnet_pl.runs.prediction import load_network
from mshnet_pl.runs.processes import end_with_parent, fresh_processes
from mshnet_pl.runs.shard_worker import ShardWorker

_TASK = "SLURM_ARRAY_TASK_"
_KINDS = re.compile(r"(?:(local):)?([1-9]\d*)|(ray)(?::([1-9]\d*))?|(slurm)")


class Workers(NamedTuple):
    """Their kind, ``local``, ``ray`` or ``slurm``, and number; 0 for as many as Ray has room for."""

    kind: str
    number: int

    @classmethod
    def of(cls, given: PredictConfig) -> "Workers":
        """Those of a job.

        Raises:
            ConfigError: there is no such kind, or GPUs are set aside by what cannot.
        """
        match = _KINDS.fullmatch(given.workers)
        if not match:
            raise ConfigError(f"workers={given.workers}: give local:N, ray, ray:N or slurm")
        _, local, ray, rays, slurm = match.groups()
        if given.gpus_per_worker and not ray:
            raise ConfigError(f"gpus_per_worker={given.gpus_per_worker:g} is for workers=ray; others take device=...")
        return cls(ray or slurm or "local", int(local or rays or (0 if ray else 1)))

    def share(self, parts: int, environment: Mapping[str, str]) -> range:
        """The numbers of the parts that are this command's: all, or of a SLURM array every n-th.

        Raises:
            ConfigError: it was not started as an array.
        """
        if self.kind != "slurm":
            return range(parts)
        try:
            task, first, count = (int(environment[f"{_TASK}{name}"]) for name in ("ID", "MIN", "COUNT"))
            step = int(environment.get(f"{_TASK}STEP", 1))
        except (KeyError, ValueError) as error:
            raise ConfigError(
                f"workers=slurm: {_TASK}ID, MIN and COUNT do not say which parts are this task's ({error}); start it as an "
                "array: sbatch --array=0-7"
            ) from None
        return range((task - first) // step, parts, count)


def on_this_machine(given: PredictConfig, parts: Sequence[int], count: int) -> Generator[int, None, None]:
    """Fresh processes, each of which gets a part at a time."""
    context: Any = fresh_processes("mshnet_pl.runs.worker_pools")
    left = iter(parts)
    workers: list[BaseProcess] = []
    at_work: dict[Connection, int] = {}
    try:
        for rank, number in enumerate(islice(left, count)):
            ours, theirs = context.Pipe()
            workers.append(context.Process(target=_serve, args=(given, os.getcwd(), rank, theirs), daemon=True))
            workers[-1].start()
            theirs.close()
            ours.send(number)
            at_work[ours] = number
        while at_work:
            for pipe in wait([*at_work]):
                assert isinstance(pipe, Connection)
                try:
                    said = pipe.recv()
                except (EOFError, OSError):
                    raise RunFailed(
                        f"the worker that was at part {at_work[pipe]} was ended; out of memory, perhaps"
                    ) from None
                if isinstance(said, Exception):
                    raise said
                if (following := next(left, None)) is None:
                    at_work.pop(pipe)
                else:
                    at_work[pipe] = following
                    with suppress(OSError):  # it has ended since, which reading shows
                        pipe.send(following)
                yield said
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def _serve(given: PredictConfig, place: str, rank: int, parent: Connection) -> None:
    """A process of ``on_this_machine``: signals are its parent's matter, which ends it."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    end_with_parent()
    with suppress(EOFError, BrokenPipeError):  # the parent has no more parts, or has ended
        try:
            worker = _worker(given, place, _device(given.device, rank))
            while True:
                parent.send(worker.write(parent.recv()))
        except (EOFError, BrokenPipeError):
            raise
        except UserError as error:
            parent.send(error)
        except Exception as error:
            parent.send(RunFailed(f"a worker ended with {type(error).__name__}: {error}"))


def _device(given: str | None, rank: int) -> str | None:
    """The GPUs of a machine, in turn, where none is named."""
    shared = given in (None, "cuda") and torch.cuda.device_count() > 1
    return f"cuda:{rank % torch.cuda.device_count()}" if shared else given


def _worker(given: PredictConfig, place: str, device: str | None) -> ShardWorker:
    os.chdir(place)
    logging.getLogger("mshnet_pl").setLevel(logging.ERROR)  # warnings were given by the command itself
    torch.set_num_threads(given.threads)
    return ShardWorker(given, load_network(given, device))


class RayWorker:
    """An actor of Ray Data, which gets a part at a time.

    Args:
        given: the job.
        place: folder that its paths are relative to.
    """

    def __init__(self, given: PredictConfig, place: str) -> None:
        self._worker = _worker(given, place, given.device or ("cuda" if given.gpus_per_worker else "cpu"))

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Write the part of that number."""
        return {"part": self._worker.write(int(row["part"]))}


def on_ray(given: PredictConfig, parts: Sequence[int], count: int) -> Generator[int, None, None]:
    """Actors of the cluster that runs (``RAY_ADDRESS``, ``ray start``), or of one that is started here.

    It is started before the first part is asked for: Ray takes SIGTERM, which the caller then takes.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(f"workers={given.workers} needs Ray Data: pip install 'mshnet_pl[ray]'") from error
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False, ignore_reinit_error=True)
    except Exception as error:  # of no type of its own
        raise RunFailed(f"Ray did not start: {error}") from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    room = ray.cluster_resources()  # type: ignore[no-untyped-call]
    most = room.get("GPU", 0) / given.gpus_per_worker if given.gpus_per_worker else room["CPU"] / given.threads
    return _done_by_ray(given, parts, max(min(count or int(most), len(parts)), 1))


def _done_by_ray(given: PredictConfig, parts: Sequence[int], count: int) -> Generator[int, None, None]:
    import ray
    import ray.data

    actor: Any = RayWorker
    numbers = ray.data.from_items([{"part": number} for number in parts], override_num_blocks=len(parts))
    done = numbers.map(
        actor,
        fn_constructor_args=(given, os.getcwd()),
        compute=ray.data.ActorPoolStrategy(size=count),
        num_cpus=given.threads,
        num_gpus=given.gpus_per_worker or None,
    )
    try:
        for row in done.iter_rows():
            yield int(row["part"])
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        raise cause if isinstance(cause, UserError) else RunFailed(f"a worker ended: {error}") from None
    finally:
        ray.shutdown()
