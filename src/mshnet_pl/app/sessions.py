"""The sessions of all visitors: how many there are at a time, and when one ends."""

import threading
import time

from mshnet_pl.app.files import Workspace
from mshnet_pl.app.session import Session
from mshnet_pl.errors import DataError


class Sessions:
    """Sessions by the key that a browser draws for each load of the page.

    Args:
        workspace: where their files lie.
        most: how many there may be at a time.
        idle: after how many seconds without an event one ends.
    """

    def __init__(self, workspace: Workspace, most: int, idle: float) -> None:
        self.workspace, self._most, self._idle = workspace, most, idle
        self._sessions: dict[str, Session] = {}
        self._used: dict[str, float] = {}
        self._lock = threading.Lock()

    def start(self, key: str) -> None:
        """Begin a session.

        Raises:
            DataError: there are too many.
        """
        self.sweep()
        with self._lock:
            if key not in self._sessions:
                if len(self._sessions) >= self._most:
                    raise DataError(f"{self._most} others use this page at present: reload it in some minutes")
                self._sessions[key] = Session(self.workspace.new_folder())
            self._used[key] = time.monotonic()

    def get(self, key: str) -> Session:
        """The session of a key, which counts as used.

        Raises:
            DataError: it has ended.
        """
        with self._lock:
            if key not in self._sessions:
                raise DataError("This page was left alone for too long, or too many others use it: reload it")
            self._used[key] = time.monotonic()
            return self._sessions[key]

    def end(self, key: str) -> None:
        """Forget a session and delete its files; one that has ended before is fine."""
        with self._lock:
            self._used.pop(key, None)
            session = self._sessions.pop(key, None)
        if session is not None:
            session.folder.remove()

    def sweep(self) -> None:
        """End the sessions that are idle."""
        oldest = time.monotonic() - self._idle
        with self._lock:
            idle = [key for key, used in self._used.items() if used < oldest]
        for key in idle:
            self.end(key)
