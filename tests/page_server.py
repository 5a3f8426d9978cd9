"""A running ``mshnet-app``, and a visitor who speaks to it over HTTP as its page does."""

import importlib.util
import json
import os
import re
import signal
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from urllib.request import urlopen

import pytest

import forked

if importlib.util.find_spec("gradio") is None:  # whose import takes seconds
    pytest.skip("needs gradio", allow_module_level=True)
httpx = pytest.importorskip("httpx")

API = "/gradio_api"
MIB = 2**20


class Server(NamedTuple):
    """A process that serves the page, the folder that its temporary files go to, and its output."""

    url: str
    process: BaseProcess
    folder: Path
    log: Path

    @property
    def root(self) -> Path:
        """Its own temporary folder."""
        (root,) = self.folder.glob("mshnet-app-*")
        return root

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]

    def stopped(self, number: signal.Signals) -> int | None:
        """The exit code after a signal."""
        os.kill(self.process.pid or 0, number)
        self.process.join(120)
        return self.process.exitcode

    def resident(self) -> int:
        """Memory in bytes."""
        (line,) = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(line) * 1024

    def peak(self) -> int:
        """The most memory that it had, in bytes."""
        (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(line) * 1024


@contextmanager
def serving(checkpoint: Path | None, folder: Path, *settings: str, program: str = forked.command("app")) -> Iterator[Server]:
    """Serve a checkpoint, or the default network, until the end of the ``with``, where Ctrl-C stops it unless something has.

    No file of it stays then, and its log holds no traceback.
    """
    port = free_port()
    temporary, log = folder / "temporary", folder / "log"
    temporary.mkdir()
    arguments = [*([f"ckpt={checkpoint}"] if checkpoint else []), f"port={port}", "device=cpu", *settings]
    places = {"GRADIO_TEMP_DIR": str(temporary), "TMPDIR": str(temporary)}
    process = forked.started(program, folder, log, "mshnet-app", *arguments, **places)
    server = Server(f"http://127.0.0.1:{port}", process, temporary, log)
    try:
        while not answers(server.url):
            assert process.exitcode is None, log.read_text()
            time.sleep(0.2)
        yield server
        said = log.read_text()  # a browser that goes away during an upload is no fault
        assert said.count("Traceback") == said.count("starlette.requests.ClientDisconnect"), said[-3000:]
        if process.exitcode is None:
            assert server.stopped(signal.SIGINT) == 0, log.read_text()
        assert server.files() == []
    finally:
        process.terminate()
        process.join()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class Done(NamedTuple):
    """What an event gave: its outputs, None for one that failed, and the messages that the page shows."""

    outputs: list[Any] | None
    messages: list[str]


class Visitor:
    """One load of the page, without a browser."""

    clients: ClassVar[list[httpx.Client]] = []

    def __init__(self, url: str, start: bool = True) -> None:
        self.client = httpx.Client(base_url=url, timeout=120)
        self.clients.append(self.client)
        self.key = uuid.uuid4().hex[:11]
        found = re.search(r"window\.gradio_config = (\{.*?\});\s*</script>", self.client.get("/").text, re.DOTALL)
        assert found
        self.config = json.loads(found[1])
        self.events: dict[str, int] = {}
        for event in self.config["dependencies"]:
            self.events.setdefault(event["api_name"], event["id"])
        if start:
            assert self.event("start").outputs is not None

    def upload(self, *files: Path) -> list[dict[str, Any]]:
        """Upload; gives what events name the files by."""
        answer = self.client.post(f"{API}/upload", files=[("files", (file.name, file.read_bytes())) for file in files])
        answer.raise_for_status()
        return [named(path) for path in answer.json()]

    def join(self, name: str, data: Sequence[object] = (), index: object = None) -> httpx.Response:
        """Queue an event; ``index`` is the chosen picture's, of one that is about a gallery."""
        event = {"data": [*data], "fn_index": self.events[name], "session_hash": self.key, "trigger_id": None}
        chosen = {"event_data": {"index": index, "value": None}} if index is not None else {}
        return self.client.post(f"{API}/queue/join", json={**event, **chosen})

    def event(self, name: str, data: Sequence[object] = (), index: object = None) -> Done:
        """An event, and what comes of it."""
        self.join(name, data, index).raise_for_status()
        messages = []
        with self.client.stream("GET", f"{API}/queue/data", params={"session_hash": self.key}) as stream:
            for line in stream.iter_lines():
                if not line.startswith("data: "):
                    continue
                message = json.loads(line[6:])
                if message["msg"] == "log":
                    messages.append(message["log"])
                elif message["msg"] == "process_completed":
                    output = message["output"]
                    if not message["success"]:
                        return Done(None, [*messages, str(output.get("error"))])
                    return Done(output["data"], messages)
        raise AssertionError("the server ended the stream")

    def read(self, path: str) -> httpx.Response:
        return self.client.get(f"{API}/file={path}")


def named(path: Path | str, **more: object) -> dict[str, Any]:
    """A file as events name it."""
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}, **more}


def drawing(*layers: dict[str, Any]) -> dict[str, Any]:
    """The editor's value."""
    return {"background": None, "layers": [*layers], "composite": None, "id": None}


def show(visitor: Visitor, pictures: dict[str, Path]) -> list[Any]:
    """Give a support with its mask, and a query; gives what events name the query by."""
    for event, name in (("open", "support"), ("open_mask", "mask")):
        files = visitor.upload(pictures[name])
        assert visitor.event(event, [None, *files] if event == "open" else files).messages == []
    queries = visitor.event("check", [visitor.upload(pictures["query"])]).outputs
    assert queries
    return list(queries[0])


@pytest.fixture(autouse=True)
def clients_are_closed() -> Iterator[None]:
    """After each test of a file that imports it."""
    yield
    while Visitor.clients:
        Visitor.clients.pop().close()
