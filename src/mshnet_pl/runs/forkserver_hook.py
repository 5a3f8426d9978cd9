"""Imported by the server that forks processes: it says nothing of those whose command ended before they began."""

import sys
from types import TracebackType


def _say(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not isinstance(error, EOFError | OSError):  # what a new process reads of its command was gone
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _say
