"""Programs in processes of their own, without the seconds of imports: forked from one that has imported the package."""

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from multiprocessing import util
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
IMPORTED = [
    "mshnet_pl.runs.run", "mshnet_pl.runs.predict", "mshnet_pl.cli.train", "mshnet_pl.cli.export", "mshnet_pl.cli.app",
    "timm", "fastapi", "uvicorn", "pandas", "httpx", "huggingface_hub", "forked",
]  # fmt: skip
"""What is there at their start. Gradio is not, whose import already makes a folder."""


def command(name: str) -> str:
    """The program that is ``mshnet-NAME``."""
    return f"from mshnet_pl.cli.{name} import main; main()"


def started(program: str, folder: Path, log: Path, *arguments: object, **environment: str) -> BaseProcess:
    """A program in ``folder`` with ``arguments``, the first of which is its name; all that it says goes to ``log``."""
    CONTEXT.set_forkserver_preload(IMPORTED)
    log.touch()  # for who reads it before the program has begun
    process = CONTEXT.Process(target=_run, args=(program, folder, log, [*map(str, arguments)], environment))
    process.start()
    return process


class Forked:
    """``started`` with what tests use of ``subprocess.Popen``; standard output comes with the errors."""

    def __init__(self, name: str, folder: Path, *arguments: object) -> None:
        self._log = folder / "said"
        self._process = started(command(name.removeprefix("mshnet-")), folder, self._log, name, *arguments)
        self.pid, self.kill = self._process.pid or 0, self._process.kill

    def poll(self) -> int | None:
        return self._process.exitcode

    returncode = property(poll)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self._process.join(timeout)
        assert self.poll() is not None, f"it runs on after {timeout} s"
        return "", self._log.read_text()


def _run(program: str, folder: Path, log: Path, arguments: list[str], environment: dict[str, str]) -> None:
    """In the new process, which gets a process group of its own, as a shell starts it."""
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # which the server of fresh processes holds back
    os.chdir(folder)
    os.environ |= environment
    tempfile.tempdir = None
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = arguments
    util.spawnv_passfds = _spawned  # type: ignore[attr-defined]
    exec(program, {"__name__": "__main__"})


def _spawned(path: bytes, arguments: Sequence[str], descriptors: Sequence[int], spawn: Any = util.spawnv_passfds) -> int:  # type: ignore[attr-defined]  # noqa: ANN401
    """The program's own server of fresh processes is forked from it, in place of one that imports all of that again."""
    if "forkserver" not in arguments[-1]:
        return int(spawn(path, arguments, descriptors))
    if number := os.fork():
        return number
    kept = [2, *sorted(descriptors), os.sysconf("SC_OPEN_MAX")]
    for before, after in pairwise(kept):
        os.closerange(before + 1, after)
    try:
        exec(arguments[-1], {})
    finally:
        os._exit(0)
