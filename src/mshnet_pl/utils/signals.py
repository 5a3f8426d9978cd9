"""Signals that ask a run to end: SIGTERM, SIGUSR1 as schedulers send it before they take a machine away, and Ctrl-C."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import FrameType, TracebackType
from typing import Any

from mshnet_pl.errors import Interrupted

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))
AGAIN = "The same command resumes from there."


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
            if sys.stderr.isatty():  # past Python's buffers, which the signal may have interrupted
                os.write(2, f"\n{self.signal.name}: saving first; Ctrl-C again ends at once\n".encode())

    def ended(self, what_is_kept: str, again: str = AGAIN) -> Interrupted:
        """The exception that ends the work, with the exit code that a shell gives for the signal."""
        return interrupted(self.signal or signal.SIGTERM, what_is_kept, again)  # another process of the run had it


def interrupted(number: signal.Signals, what_is_kept: str, again: str = AGAIN) -> Interrupted:
    """What ends a command after a signal: ``SIGINT:``, what is kept, and how to go on."""
    return Interrupted(f"{number.name}: {what_is_kept}. {again}", 128 + number)


@contextmanager
def passed_on(processes: Sequence[BaseProcess]) -> Iterator[Interruption]:
    """Hand the signals to processes that run meanwhile, also one that was ``held``, and note the first."""
    with _handed_to(lambda: processes) as interruption:
        held_before = let_through()
        try:
            yield interruption
        finally:
            _block(held_before)


@contextmanager
def held() -> Iterator[Interruption]:
    """Hand the signals to the processes that are started meanwhile, which have them held back, and note the first.

    However young such a process is, it does not die of it: the signal waits until ``passed_on`` or ``let_through``.
    """
    over = threading.Event()
    with _handed_to(multiprocessing.active_children) as interruption:
        threading.Thread(target=over.wait, daemon=True).start()  # gets what is held back from this thread
        _block(_SIGNALS)
        try:
            yield interruption
        finally:
            let_through()
            over.set()


@contextmanager
def _handed_to(processes: Callable[[], Sequence[BaseProcess]]) -> Iterator[Interruption]:
    interruption = Interruption()

    def hand_on(number: int, frame: FrameType | None) -> None:
        interruption.signal = interruption.signal or signal.Signals(number)
        _next_ends(number)
        for process in processes():
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)

    before = _handle(hand_on)
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def are_held() -> bool:
    """Whether the signals are held back from this process, see ``held``."""
    return hasattr(signal, "pthread_sigmask") and signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def is_waiting() -> bool:
    """Whether one that is held back has come."""
    return are_held() and bool(signal.sigpending() & {*_SIGNALS})


def let_through() -> list[int]:
    """Let signals through to this thread that were held back from it; gives which."""
    if not are_held():
        return []
    return [int(number) for number in signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS) if number in _SIGNALS]


def _block(numbers: Iterable[int]) -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Processes that are started meanwhile have Ctrl-C held back until ``end_on_interrupts``; here it comes at the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_on_interrupts() -> None:
    """For a process that has nothing to save yet: Ctrl-C ends it, without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    let_through()


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
