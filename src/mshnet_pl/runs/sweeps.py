"""A sweep as the process that starts it sees it: its jobs, what they share, and how far they are."""

import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from mshnet_pl import results
from mshnet_pl.errors import ConfigError, UserError
from mshnet_pl.runs import jobs, workers
from mshnet_pl.runs.job import Run
from mshnet_pl.runs.processes import end_with_parent, fresh_processes
from mshnet_pl.utils.files import find_files
from mshnet_pl.utils.signals import Interruption, end_on_interrupts

log = logging.getLogger(__name__)

_LOCAL = ("BasicLauncher", "JoblibLauncher")
"""Launchers whose jobs see the files that this process sees."""
_SECONDS = 1.0
"""Between two looks at the jobs."""

Overrides = tuple[str, ...]
"""What a job has of the command line."""


class Sweep(Callback):
    """Hydra's callback in the process that starts a sweep.

    It ends the sweep where the first and the last job have the same fault, says after every job how many are left, and
    remembers what had failed before.
    """

    folder: ClassVar[Path | None] = None
    before: ClassVar[dict[Path, bytes]] = {}
    jobs: ClassVar[list[Overrides]] = []
    """Empty where a sweeper chooses them on the way."""
    _progress: ClassVar[threading.Thread | None] = None
    _end: ClassVar[threading.Event] = threading.Event()
    signals: ClassVar[ExitStack] = ExitStack()
    _interruption: ClassVar[Interruption | None] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ANN401 - Hydra's signature
        """See the class.

        Raises:
            Refused: with what is wrong with every job.
        """
        found = _jobs(config.hydra)
        if found and config.hydra.launcher._target_.endswith(_LOCAL):
            _check_what_is_shared(config.hydra, found)
        Sweep.folder, Sweep.jobs = Path(config.hydra.sweep.dir), found
        Sweep.before = results.failure_files(Sweep.folder)
        if found:
            swept = (values[0].partition("=")[0] for values in zip(*found, strict=True) if len({*values}) > 1)
            os.environ[jobs.SWEEP] = " ".join([str(len(found)), *swept])
            log.info("%d jobs, results go to %s", len(found), config.runs)
            Sweep._end.clear()
            Sweep._progress = threading.Thread(target=_say_what_is_left, daemon=True)
            Sweep._progress.start()
        Sweep._interruption = None
        if workers.are_used(config.hydra.launcher):
            Sweep._interruption = Sweep.signals.enter_context(workers.signals_held())

    @staticmethod
    def on_the_end() -> None:
        """Once every job has ended: a signal that came meanwhile, or else waiting for what other sweeps are at.

        Raises:
            Interrupted: there was a signal.
        """
        Sweep.signals.close()
        if Sweep.folder is None:
            return
        if Sweep._interruption is not None and Sweep._interruption.signal is not None:
            raise Sweep._interruption.ended("what was under way is saved, and no further job was started")
        jobs.wait_for_others(Sweep.folder, Sweep.before)

    @staticmethod
    def close() -> None:
        """All is done, or was given up: nothing of this sweep runs on."""
        Sweep.signals.close()
        Sweep._end.set()
        if Sweep._progress is not None:
            Sweep._progress.join()
            Sweep._progress = None


class Refused(BaseException):
    """A ``ConfigError`` ends a sweep before its first job; Hydra passes over what is only an ``Exception`` of a callback."""


def _say_what_is_left() -> None:
    """A line whenever jobs ended, until the sweep's end."""
    started, at_start = time.monotonic(), len(ended())
    said, total, last = at_start, len(Sweep.jobs), False
    while not last:
        last = Sweep._end.wait(_SECONDS)
        now = len(ended())
        if now > said:
            said, left = now, total - now
            when = datetime.now() + timedelta(seconds=(time.monotonic() - started) / (now - at_start) * left)
            until = f"; the last one ends about {when:%a %H:%M}" if left else ""
            log.info("%d of %d jobs ended, %d left%s", now, total, left, until)


def folders() -> dict[Overrides, Path]:
    """Where the sweep's jobs work, of those that began, now or in an earlier sweep."""
    assert Sweep.folder is not None
    wanted, begun = {*Sweep.jobs}, list[tuple[float, Overrides, Path]]()
    for path in find_files(Sweep.folder, "overrides.yaml"):
        with suppress(OSError, YAMLError):  # gone, or half written, as its job begins this moment
            begun.append((path.stat().st_mtime, tuple(map(str, OmegaConf.load(path))), path.parents[1]))
    return {overrides: folder for _, overrides, folder in sorted(begun) if overrides in wanted}


def ended() -> list[Path]:
    """Folders of the sweep's jobs that have a result, or failed since it began."""
    assert Sweep.folder is not None
    failures = results.failure_files(Sweep.folder).items()
    failed = {path.parent for path, content in failures if content != Sweep.before.get(path)}
    return [folder for folder in folders().values() if folder in failed or (folder / results.FILE).exists()]


def _jobs(settings: DictConfig) -> list[Overrides]:
    """What Hydra's own sweeper will start: every combination of the experiment's and the command line's values."""
    if not settings.sweeper._target_.endswith(".BasicSweeper"):
        return []
    given = [f"{key}={value}" for key, value in (settings.sweeper.params or {}).items()]
    parsed = OverridesParser.create().parse_overrides([*given, *settings.overrides.task])
    (combinations,) = BasicSweeper.split_arguments(parsed, None)
    return [*map(tuple, combinations)]


def _check_what_is_shared(settings: DictConfig, sweep: Sequence[Overrides]) -> None:
    """Compose the first job and look at its data; if that fails, the last one, too.

    Raises:
        Refused: with the fault of both.
    """
    first = _fault(settings, sweep[0])
    if first is not None and first == _fault(settings, sweep[-1]):
        raise Refused(ConfigError(first))


def _fault(settings: DictConfig, overrides: Overrides) -> str | None:
    raw = hydra.compose(settings.job.config_name, [*settings.overrides.hydra, *overrides])
    try:
        run = Run.of(raw)
    except UserError as error:
        return str(error)
    # composing and starting sweeps needs no PyTorch
    with ProcessPoolExecutor(1, fresh_processes(), _begin) as pool:
        try:
            return pool.submit(_fault_of_data, run).result()
        except BrokenProcessPool:  # the job itself will tell
            return None


def _begin() -> None:
    end_on_interrupts()
    end_with_parent()


def _fault_of_data(run: Run) -> str | None:
    from mshnet_pl.runs import build

    try:
        build.make_datamodule(run).setup()
    except UserError as error:
        return str(error)
    return None
