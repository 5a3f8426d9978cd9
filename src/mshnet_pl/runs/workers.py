"""Joblib's workers, which do a sweep's jobs on this machine's cores: they outlive a signal, until the jobs have saved."""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing import resource_tracker

from omegaconf import DictConfig

from mshnet_pl.utils.signals import Interruption, are_held, held
from mshnet_pl.utils.targets import class_name


def are_used(launcher: DictConfig) -> bool:
    """Whether this launcher has some: with one job at a time joblib starts none."""
    if class_name(launcher.get("_target_")) != "JoblibLauncher" or os.name != "posix":
        return False
    from joblib import effective_n_jobs

    return bool(effective_n_jobs(launcher.n_jobs) > 1)


@contextmanager
def signals_held() -> Iterator[Interruption]:
    """Hand signals to the workers that are started meanwhile, which have them held back, and note the first.

    The trackers of both libraries are started before, since starting them lets all signals through.
    """
    from joblib.externals.loky.backend import resource_tracker as joblibs

    resource_tracker.ensure_running()
    joblibs.ensure_running()
    with held() as interruption:
        yield interruption


def is_one() -> bool:
    """Whether this process is such a worker."""
    return multiprocessing.parent_process() is not None and are_held()


@cache
def end_with_launcher() -> None:
    """End this worker, and the processes of its job with it, soon after the process that started it has ended."""
    launcher = multiprocessing.parent_process()
    assert launcher is not None

    def watch() -> None:
        while os.getppid() == launcher.pid:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
