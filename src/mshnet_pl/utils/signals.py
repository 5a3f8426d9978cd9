"""Signals that ask a run to end: SIGTERM, SIGUSR1 as schedulers send it before they take a machine away, and Ctrl-C."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType
from typing import Any

from mshnet_pl.errors import Interrupted

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))
AGAIN = "The same command goes on from there."


class Interruption:
    """Takes the signals within a ``with``: ends the work at once, or notes the signal while ``waits`` is set.

    The first signal counts, later ones change nothing; but a second Ctrl-C ends the process at once. Where SLURM started
    this very process, by srun, the signals are left to Lightning, which saves and asks SLURM for the job again.

    Args:
        waits: whether someone will look at ``signal``.
    """

    def __init__(self, waits: bool = False) -> None:
        self.signal: signal.Signals | None = None
        """What came."""
        self.waits = waits
        """See the class."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        """Take the signals."""
        self.take()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def take(self) -> None:
        """Take the signals, again where someone else has taken them meanwhile."""
        if "SLURM_NTASKS" not in os.environ:
            before = _handle(self._come)
            self._before = self._before or before

    def _come(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = signal.Signals(number)
            _next_ends(number)
            if not self.waits:
                raise self.ended("no training step was under way; what was finished is kept")

    def ended(self, what_is_kept: str, again: str = AGAIN) -> Interrupted:
        """The exception that ends the work, with the exit code that a shell gives for the signal."""
        return interrupted(self.signal or signal.SIGTERM, what_is_kept, again)  # another process of the run had it


def interrupted(number: signal.Signals, what_is_kept: str, again: str = AGAIN) -> Interrupted:
    """What ends a command after a signal: ``SIGINT:``, what is kept, and how to go on."""
    return Interrupted(f"{number.name}: {what_is_kept}. {again}", 128 + number)


@contextmanager
def passed_on(processes: Sequence[BaseProcess]) -> Iterator[Interruption]:
    """Hand the signals to processes that run meanwhile, and note the first."""
    interruption = Interruption()

    def hand_on(number: int, frame: FrameType | None) -> None:
        interruption.signal = interruption.signal or signal.Signals(number)
        _next_ends(number)
        for process in processes:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)

    before = _handle(hand_on)
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_interrupts(worker: int = 0) -> None:
    """For a process that loads images: Ctrl-C is its parent's matter, which may need some more until it can save."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _next_ends(number: int) -> None:
    """A second Ctrl-C ends the process that the user started; those that it started end with it."""
    if number == signal.SIGINT and multiprocessing.parent_process() is None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _handle(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Set a handler for all of the signals; gives those that were set, none outside of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in _SIGNALS}
