"""A file server on this machine that can be asked for the rest of a file, and can hang up."""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar


class Server(ThreadingHTTPServer):
    """Serves ``files``; hangs up after ``most`` bytes; ``ranges`` says whether it can start in the middle.

    It waits ``pause`` seconds before the second half of what it sends.
    """

    most: int | None = None
    ranges = True
    pause = 0.0

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.asked: list[str | None] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.server.asked.append(asked)
        content = self.server.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.server.ranges else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        most = self.server.most
        sent = content[start : None if most is None else start + most]
        self.wfile.write(sent[: len(sent) // 2])
        time.sleep(self.server.pause)
        self.wfile.write(sent[len(sent) // 2 :])

    def log_message(self, format: str, *arguments: object) -> None:
        pass


S = TypeVar("S", bound=ThreadingHTTPServer)


@contextmanager
def answering(server: S) -> Iterator[S]:
    """A server that answers, in a thread, until the end of the ``with``."""
    with server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def serve(files: dict[str, bytes]) -> AbstractContextManager[Server]:
    return answering(Server(files))
