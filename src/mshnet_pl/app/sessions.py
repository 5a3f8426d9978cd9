"""The sessions of all visitors: how many there are at a time, and when one ends."""

import threading
import time
from collections import deque

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
        self._ended: deque[str] = deque(maxlen=1000)
        self._lock = threading.RLock()

    def start(self, key: str) -> None:
        """Begin a session; one that has begun goes on.

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

    def __contains__(self, key: str) -> bool:
        """Whether a key's session is alive."""
        with self._lock:
            return key in self._sessions

    def get(self, key: str) -> Session:
        """The session of a key, which counts as used. A quick visitor's first event comes before the page's own ``start``.

        Raises:
            DataError: it has ended, or there are too many.
        """
        with self._lock:
            if key in self._ended:
                raise DataError("This page was left alone for too long: reload it")
            if key not in self._sessions:
                self.start(key)
            self._used[key] = time.monotonic()
            return self._sessions[key]

    def end(self, key: str) -> None:
        """Forget a session and delete its files; one that has ended before is fine."""
        with self._lock:
            self._used.pop(key, None)
            session = self._sessions.pop(key, None)
            if session is not None:
                self._ended.append(key)
        if session is not None:
            session.folder.remove()

    def sweep(self) -> None:
        """End the sessions that are idle."""
        oldest = time.monotonic() - self._idle
        with self._lock:
            idle = [key for key, used in self._used.items() if used < oldest]
        for key in idle:
            self.end(key)
