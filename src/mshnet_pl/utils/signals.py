"""Signals that ask a run to end: SIGTERM, and SIGUSR1 as schedulers send it before they take a machine away."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType
from typing import Any

from mshnet_pl.errors import Interrupted

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))


class Interruption:
    """Takes the signals within a ``with``: ends the run at once, or notes the signal while ``waits`` is set.

    The first signal counts, later ones change nothing. Where SLURM started this very process, by srun, the signals are
    left to Lightning, which saves and asks SLURM for the job again.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        """What came."""
        self.waits = False
        """Whether someone will look at ``signal``."""
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
            if not self.waits:
                raise self.ended("no training step was under way; what was finished is kept")

    def ended(self, what_is_kept: str) -> Interrupted:
        """The exception that ends the run, with the exit code that a shell gives for the signal."""
        came = self.signal or signal.SIGTERM  # another process of the run had it
        return Interrupted(f"{came.name}: {what_is_kept}. The same command goes on from there.", 128 + came)


@contextmanager
def passed_on(processes: Sequence[BaseProcess]) -> Iterator[Interruption]:
    """Hand the signals to processes that run meanwhile, and note the first."""
    interruption = Interruption()

    def hand_on(number: int, frame: FrameType | None) -> None:
        interruption.signal = interruption.signal or signal.Signals(number)
        for process in processes:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)

    before = _handle(hand_on)
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _handle(handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Set a handler for all of the signals; gives those that were set, none outside of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in _SIGNALS}
