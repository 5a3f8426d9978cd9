"""A checkpoint's page on a port of this machine."""

import logging
import os
import re
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mshnet_pl.app.files import Workspace
from mshnet_pl.app.sessions import Sessions
from mshnet_pl.config.commands import AppConfig
from mshnet_pl.errors import ConfigError
from mshnet_pl.inference.segmenter import Segmenter

if TYPE_CHECKING:
    from mshnet_pl.app.guard import Guard

_MAX_CONNECTIONS = 256
_UPLOADS = 100
"""How many of the largest files may lie in the page's folder."""
_PERIOD = 5.0
"""Seconds from one look at sessions and files to the next."""
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


def serve(config: AppConfig) -> None:
    """Serve the page until the process is interrupted; its files are deleted then.

    Raises:
        ConfigError: no such checkpoint, a port that cannot be used, no host names, no Gradio, or no public address.
    """
    names = {name.strip().lower() for name in [config.host, *(config.hosts or "").split(",")]} - {"", "0.0.0.0", "::"}
    for name in names:
        if not re.fullmatch(r"[\w.-]+|[0-9a-f:.]+", name):
            raise ConfigError(f"hosts={config.hosts}: give host names without ports, separated by commas")
    with _folder() as folder:  # before Gradio is imported, which makes a folder in it
        try:
            from mshnet_pl.app.guard import Guard
            from mshnet_pl.app.page import Page
            from mshnet_pl.app.page import share as share_publicly
        except ModuleNotFoundError as error:
            if error.name not in ("gradio", "starlette", "fastapi"):
                raise
            raise ConfigError("mshnet-app needs Gradio: pip install 'mshnet_pl[app]'") from error
        network = Segmenter.from_pretrained(config.ckpt, config.device)
        with _listening(config.host, config.port) as listener:
            address = share_publicly(config.host, config.port) if config.share else ""
            workspace = Workspace(folder, _UPLOADS * config.max_upload_mb * 2**20)
            sessions = Sessions(workspace, config.max_sessions, 60 * config.idle_minutes)
            page = Page(network.fresh, sessions, config.max_upload_mb)
            guard = Guard(page.app, names, workspace, config.max_upload_mb)
            if address:
                guard.hosts.add(urlsplit(address).netloc)
                print(f"The page is served at {address} too: everyone who has this address can use it.", flush=True)
            shown = f"[{config.host}]" if ":" in config.host else config.host
            print(f"The page is served at http://{shown}:{config.port}; Ctrl-C ends it.", flush=True)
            with _repeatedly(sessions.sweep, workspace.sweep, page.forget):
                _run(guard, listener)


def _run(guard: "Guard", listener: socket.socket) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # streams that are cut off now are no errors
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        guard,
        log_level="error",
        ws="none",
        server_header=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_graceful_shutdown=1,
    )
    with suppress(KeyboardInterrupt):
        Server(config).run([listener])


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigError(f"host={host} port={port}: {error}; give another port or host") from error
    with listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else an answer's parts wait 40 ms for each other
        yield listener


@contextmanager
def _folder() -> Iterator[Path]:
    """A temporary folder that Gradio keeps its files in, deleted at the end and when a signal ends the process."""

    def end(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGTERM:
            signal.raise_signal(signal.SIGTERM)  # while the page is served uvicorn takes it
            return
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # the folder is being deleted
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in _SIGNALS}
    where = os.environ.get("GRADIO_TEMP_DIR")
    try:
        with tempfile.TemporaryDirectory(prefix="mshnet-app-", dir=where, ignore_cleanup_errors=True) as folder:
            os.environ["GRADIO_TEMP_DIR"] = folder
            yield Path(folder)
    finally:
        os.environ.pop("GRADIO_TEMP_DIR", None)
        if where is not None:
            os.environ["GRADIO_TEMP_DIR"] = where
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _repeatedly(*acts: Callable[[], None]) -> Iterator[None]:
    """Do all of them every now and then, in a thread of its own."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(_PERIOD):
            for act in acts:
                act()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
