"""What strangers, other sites and careless visitors can do to a running ``mshnet-app``: real requests to a real server."""

import http.client
import importlib.util
import io
import itertools
import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import Command
from local_server import serve as serve_files
from mshnet_pl.data.sources.synthetic import Synthetic

if importlib.util.find_spec("gradio") is None:  # whose import takes seconds
    pytest.skip("needs gradio", allow_module_level=True)
httpx = pytest.importorskip("httpx")
from page_server import Server, Visitor, answers, drawing, free_port, named, serving  # noqa: E402 - needs httpx

SOURCE, SUPPORT, QUERY, CLASS_ID = Synthetic(size=384), "val-03-0000", "val-03-0001", 3
API = "/gradio_api"
MIB = 2**20
USED = ("/", "/theme.css", "/favicon.ico", f"{API}/upload_progress", f"{API}/queue/data", f"{API}/heartbeat/x")
"""What the page reads, but for its scripts and files."""


@pytest.fixture(scope="module")
def server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(checkpoint, tmp_path_factory.mktemp("app"), "hosts=page.example, other.example") as running:
        yield running


@pytest.fixture(autouse=True)
def _clients_are_closed() -> Iterator[None]:
    yield
    while Visitor.clients:
        Visitor.clients.pop().close()


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Path]:
    """A support, its mask and a query."""
    paths = {name: tmp_path / f"{name}.png" for name in ("support", "mask", "query")}
    SOURCE.image(SUPPORT).save(paths["support"])
    Image.fromarray(SOURCE.mask(SUPPORT, [CLASS_ID])).save(paths["mask"])
    SOURCE.image(QUERY).save(paths["query"])
    return paths


def show(visitor: Visitor, pictures: dict[str, Path]) -> list[Any]:
    """Give a support with its mask, and a query; gives what events name the query by."""
    for event, name in (("open", "support"), ("open_mask", "mask")):
        files = visitor.upload(pictures[name])
        assert visitor.event(event, [None, *files] if event == "open" else files).messages == []
    queries = visitor.event("check", [visitor.upload(pictures["query"])]).outputs
    assert queries
    return list(queries[0])


def flat(path: Path, side: int, mode: str = "L") -> Path:
    """A picture of few bytes and many pixels."""
    Image.new(mode, (side, side)).save(path)
    return path


def asked_as(server: Server, headers: dict[str, str], count: int | None = None) -> list[int]:
    """Statuses of the page's requests, or the first ``count`` of them, made with these headers."""
    own = {"host": server.url.removeprefix("http://"), **headers}
    with httpx.Client(base_url=server.url, timeout=10) as client:
        event = {"data": [], "fn_index": 0, "session_hash": "stranger"}
        requests = [
            client.build_request("GET", "/", headers=own),
            client.build_request("GET", "/theme.css", headers=own),
            client.build_request("POST", f"{API}/upload", headers=own, files=[("files", ("a.png", b"x"))]),
            client.build_request("POST", f"{API}/queue/join", headers=own, json=event),
            client.build_request("GET", f"{API}/upload_progress?upload_id=nobody", headers=own),
            client.build_request("GET", f"{API}/file={server.folder}/x", headers=own),
        ]
        return [client.send(request).status_code for request in requests[:count]]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "0.0.0.0", ""])
def test_other_host_names_are_not_served(server: Server, host: str) -> None:
    before = server.files()
    assert set(asked_as(server, {"host": host})) == {421}
    assert server.files() == before


def test_served_host_names(server: Server) -> None:
    port = server.url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "[::1]", "page.example", "OTHER.example"):
        for netloc in (host, f"{host}:{port}"):
            assert asked_as(server, {"host": netloc, "origin": f"http://{netloc}"}, 4) == [200] * 4
    assert httpx.get(server.url, headers={"host": "third.example"}).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},  # another program's page on this machine
        {"origin": "http://localhost.evil.example"},
        {"sec-fetch-site": "cross-site", "sec-fetch-dest": "empty"},
        {"sec-fetch-site": "same-site", "sec-fetch-dest": "image"},
        {"sec-fetch-site": "cross-site", "sec-fetch-dest": "iframe"},
    ],
)
def test_other_origins_may_neither_read_nor_write(server: Server, headers: dict[str, str]) -> None:
    before = server.files()
    assert set(asked_as(server, headers)) == {403}
    assert server.files() == before


def test_a_link_may_lead_to_the_page_and_no_frame_may_show_it(server: Server) -> None:
    linked = {"sec-fetch-site": "cross-site", "sec-fetch-dest": "document", "sec-fetch-mode": "navigate"}
    answer = httpx.get(server.url, headers=linked)
    assert answer.status_code == 200 and "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert asked_as(server, linked)[2:] == [403] * 4


def test_another_sites_page_in_a_browser(server: Server, pictures: dict[str, Path]) -> None:
    """A page of another origin uploads, and one of a name that leads here (DNS rebinding) opens the page."""
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium to drive")
    script = f"""async () => {{
        const body = new FormData();
        body.append('files', new Blob(['x'.repeat(1000)]), 'a.png');
        const sent = await fetch('{server.url}{API}/upload', {{method: 'POST', mode: 'no-cors', body}});
        return fetch('{server.url}/').then(() => 'read', () => 'refused');
    }}"""
    before, port = server.files(), server.url.rpartition(":")[2]
    with serve_files({"index.html": b"<title>evil</title>"}) as evil, sync_api.sync_playwright() as driver:
        rules = "--host-resolver-rules=MAP rebound.example 127.0.0.1"
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", rules])
        page = browser.new_page()
        page.goto(f"{evil.address}/index.html")
        assert page.evaluate(script) == "refused"
        answer = page.goto(f"http://rebound.example:{port}/")
        assert answer is not None and answer.status == 421
        browser.close()
    assert server.files() == before


def test_only_the_routes_that_the_page_uses_are_there(server: Server) -> None:
    """Every route of Gradio's application, with every method."""
    spec = importlib.util.find_spec("gradio")
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).with_name("routes.py").read_text()
    found = re.findall(r'@(app|router)\.\w+\(\s*f?"([^"]+)"', source)
    routes = {f"{API if owner == 'router' else ''}{path}" for owner, path in found}
    known = {*routes, "/docs", "/openapi.json", "/redoc", f"{API}/runs", f"{API}/mcp/sse", "/monitoring/summary", "/x"}
    assert {f"{API}/info", f"{API}/component_server", f"{API}/queue/join", "/config", f"{API}/startup-events"} <= known
    with httpx.Client(base_url=server.url, timeout=10) as client:
        for path, method in itertools.product(sorted(known), ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")):
            address = path.replace("{path:path}", "x").replace("{session_hash}", "x").replace("{path_or_url:path}", "x")
            reads = method in ("GET", "HEAD") and (address in USED or address.startswith(("/assets/", "/static/")))
            writes = method == "POST" and address in (f"{API}/upload", f"{API}/queue/join")
            if not reads and not writes:
                assert client.request(method, address).status_code == 404, (method, address)
        upgrade = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "x"}
        assert client.get(f"{API}/queue/join", headers=upgrade).status_code == 404


def test_the_server_fetches_no_address(server: Server, pictures: dict[str, Path]) -> None:
    visitor = Visitor(server.url)
    with serve_files({"secret.png": pictures["query"].read_bytes()}) as internal:
        address = f"{internal.address}/secret.png"
        for path in (address, address.replace("://", ":/"), address.replace(":", "%3A"), f"{API}/file={address}"):
            assert visitor.read(path).status_code == 404
            for data in ([None, named(path)], [drawing(named(path)), named("x")], [{"x": [named(path)]}, None]):
                assert visitor.join("open", data).status_code == 400
            assert visitor.join("check", [[named(path, url=address)]]).status_code == 400
        assert internal.asked == []


def test_only_the_visitors_own_files_are_read(server: Server, pictures: dict[str, Path]) -> None:
    root = server.root
    visitor, other = Visitor(server.url), Visitor(server.url)
    for path in ("/etc/passwd", f"{root}/../../../../etc/passwd", "etc/passwd", "", "~/x", str(root), f"{root}/../log"):
        assert visitor.read(path).status_code in (403, 404)
        assert visitor.join("open", [None, named(path)]).status_code == 400
    (query,) = show(other, pictures)
    assert "is gone" in visitor.event("open", [None, named(query["path"])]).messages[0]
    assert "is gone" in visitor.event("check", [[named(f"{root}/x/y.png")]]).messages[0]


@pytest.mark.parametrize(
    "body",
    [b"", b"x", b"[]", b"{}", b"[" * 100_000, b'{"session_hash": 1}', b'{"session_hash": "../x", "data": []}', b"\xff\xfe"],
)
def test_what_is_no_event_is_refused(server: Server, body: bytes) -> None:
    assert httpx.post(f"{server.url}{API}/queue/join", content=body).status_code == 400


def test_values_that_no_page_sends_end_in_a_message(server: Server, pictures: dict[str, Path]) -> None:
    visitor = Visitor(server.url)
    queries = show(visitor, pictures)
    for threshold in (0, 1, -1, 5, "0.5", None, [], {}, 1e300):
        done = visitor.event("segment", [None, queries, threshold])
        assert "from 0.01 to 0.99" in done.messages[-1]
    for index in (-1, 7, "x", [0], {"a": 1}, 1e9):
        assert visitor.event("edit", [None], index=index).messages == []
        assert visitor.event("energy_of", index=index).outputs == [[]]
    assert visitor.event("segment", [None, queries, 0.5]).messages == []


def test_layers_are_looked_at_before_they_are_decoded(server: Server, pictures: dict[str, Path], tmp_path: Path) -> None:
    visitor = Visitor(server.url)
    show(visitor, pictures)
    bomb = flat(tmp_path / "6000.png", 6000, "RGBA")
    bombs = [bomb, *(Path(shutil.copy(bomb, tmp_path / f"{number}.png")) for number in range(11))]
    assert max(path.stat().st_size for path in bombs) < 200_000
    text = tmp_path / "text.png"
    text.write_text("no picture")
    cut = tmp_path / "cut.png"
    cut.write_bytes(pictures["support"].read_bytes()[:5000])
    small = flat(tmp_path / "small.png", 8, "RGBA")
    before = server.peak()
    for files, message in (
        (bombs, "12 layers of strokes; the page has at most 4"),
        (bombs[:1], "6000.png is too large"),
        ([text], "text.png is no image"),
        ([cut], "cut.png is no layer of strokes"),
        ([small] * 5, "5 layers of strokes"),
    ):
        for event, data in (("segment", [None, 0.5]), ("open", [None]), ("edit", [])):
            layers = drawing(*visitor.upload(*files))
            done = visitor.event(event, [layers, *data], index=0 if event == "edit" else None)
            assert message in done.messages[0]
    assert server.peak() - before < 200 * MIB  # the twelve are 1.7 GB


def test_requests_that_are_too_large_or_of_unknown_length_are_refused(server: Server) -> None:
    visitor = Visitor(server.url)
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
    connection.putrequest("POST", f"{API}/upload")
    for name, value in (("content-type", "multipart/form-data; boundary=x"), ("content-length", str(401 * MIB))):
        connection.putheader(name, value)
    connection.endheaders()  # and no content: it is refused before
    assert connection.getresponse().status == 413
    connection.close()
    one = visitor.client.post(f"{API}/upload", files=[("files", ("a.png", bytes(20 * MIB + 1)))])
    assert one.status_code == 413 and "maximum allowed size" in one.text
    padded = {"data": ["x" * 300_000], "fn_index": 0, "session_hash": "x"}
    assert visitor.client.post(f"{API}/queue/join", json=padded).status_code == 413
    parts: Callable[[], Iterator[bytes]] = lambda: iter([b"x"] * 3)  # noqa: E731
    for path in ("upload", "queue/join"):
        assert visitor.client.post(f"{API}/{path}", content=parts()).status_code == 411


@pytest.mark.slow
def test_uploads_fill_no_disk(checkpoint: Path, tmp_path: Path) -> None:
    with serving(checkpoint, tmp_path, "max_upload_mb=1") as running:
        visitor, statuses = Visitor(running.url), []
        for number in range(120):
            content = number.to_bytes(4) + bytes(MIB - 4)
            answer = visitor.client.post(f"{API}/upload", files=[("files", (f"{number}.png", content))])
            statuses.append(answer.status_code)
        assert set(statuses[:98]) == {200} and set(statuses[101:]) == {503} and "no room for more files" in answer.text
        assert sum(path.stat().st_size for path in running.files()) <= 100 * MIB
        assert visitor.event("wipe").messages == []


@pytest.mark.slow
def test_ten_thousand_uploads(checkpoint: Path, tmp_path: Path) -> None:
    with serving(checkpoint, tmp_path) as running:
        visitor = Visitor(running.url)
        before = running.resident()

        def upload(number: int) -> int:
            return int(visitor.client.post(f"{API}/upload", files=[("files", ("a.png", b"%d" % number))]).status_code)

        with ThreadPoolExecutor(8) as pool:
            statuses = [*pool.map(upload, range(10_000))]
        after = running.resident()
        print(
            json.dumps({"taken": statuses.count(200), "refused": statuses.count(503), "MiB": [before // MIB, after // MIB]})
        )
        assert {*statuses} <= {200, 503} and len(running.files()) < 5020  # old ones go meanwhile, where it takes minutes
        assert after - before < 100 * MIB and visitor.event("wipe").messages == []


@pytest.mark.slow
def test_five_hundred_events_at_once(checkpoint: Path, tmp_path: Path, pictures: dict[str, Path]) -> None:
    with serving(checkpoint, tmp_path) as running:
        visitor = Visitor(running.url)
        queries = show(visitor, pictures)
        assert visitor.event("segment", [None, queries, 0.5]).messages == []
        before = running.resident()
        with ThreadPoolExecutor(64) as pool:  # one after the other the server would keep pace
            answers_ = [*pool.map(lambda _: visitor.join("segment", [None, queries, 0.5]), range(500))]
        refused = [answer for answer in answers_ if answer.status_code == 503]
        assert len(refused) > 100 and all("Queue is full" in answer.text for answer in refused)
        assert {answer.status_code for answer in answers_} == {200, 503}
        after = running.resident()
        print(json.dumps({"events": len(answers_), "refused": len(refused), "MiB": [before // MIB, after // MIB]}))
        assert after - before < 300 * MIB and answers(running.url)


def test_sessions_are_bounded_and_end_with_the_page(checkpoint: Path, tmp_path: Path, pictures: dict[str, Path]) -> None:
    with serving(checkpoint, tmp_path, "max_sessions=2") as running:
        assert httpx.get(running.url, headers={"host": "page.example"}).status_code == 421  # a name that was not given
        root = running.root
        first, quick = Visitor(running.url), Visitor(running.url, start=False)
        assert quick.event("example", [None]).outputs is not None  # before the page's own start
        third = Visitor(running.url, start=False)
        refused = third.event("start")
        assert refused.outputs is None and "2 others use this page" in refused.messages[0]
        assert "reload it" in third.event("example", [None]).messages[0]
        queries = show(first, pictures)
        assert first.event("segment", [None, queries, 0.5]).messages == []
        with first.client.stream("GET", f"{API}/heartbeat/{first.key}") as heartbeat:
            assert next(heartbeat.iter_lines()) == "data: ALIVE"
            assert len([*(root / "sessions").iterdir()]) == 2
        while third.event("start").outputs is None:
            time.sleep(0.1)
        assert len([*(root / "sessions").iterdir()]) == 2
        assert "reload it" in first.event("wipe").messages[0]
        assert third.event("example", [None]).outputs is not None


def test_idle_sessions_end(checkpoint: Path, tmp_path: Path, pictures: dict[str, Path]) -> None:
    program = (
        "import sys; from mshnet_pl.app.serve import serve; from mshnet_pl.config.commands import AppConfig;"
        "a = dict(x.split('=') for x in sys.argv[1:]);"
        "serve(AppConfig(ckpt=a['ckpt'], port=int(a['port']), device='cpu', idle_minutes=0.05))"
    )
    with serving(checkpoint, tmp_path, program=program) as running:
        root = running.root
        visitor = Visitor(running.url)
        assert visitor.event("example", [None]).outputs is not None
        assert [*(root / "sessions").rglob("*.png")]
        while [*(root / "sessions").iterdir()]:
            time.sleep(0.2)
        assert "left alone for too long" in visitor.event("wipe").messages[0]


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 0), (signal.SIGHUP, 143)], ids=lambda value: str(value)
)
def test_no_file_stays_after_the_stop(
    checkpoint: Path, tmp_path: Path, pictures: dict[str, Path], number: int, code: int
) -> None:
    with serving(checkpoint, tmp_path) as running:
        visitor, exemplified = Visitor(running.url), Visitor(running.url)
        visitor.upload(*pictures.values())
        queries = show(visitor, pictures)
        for threshold in (0.5, 0.6, 0.7):
            (_, download, *_) = visitor.event("segment", [None, queries, threshold]).outputs or ()
            assert visitor.read(download["value"]["path"]).status_code == 200
        assert visitor.event("energy").outputs and exemplified.event("example", [None]).outputs
        assert len(running.files()) > 15
        connected = threading.Event()

        def listen() -> None:
            try:
                with visitor.client.stream("GET", f"{API}/heartbeat/{visitor.key}") as heartbeat:
                    for _ in heartbeat.iter_lines():
                        connected.set()
            except httpx.TransportError:
                pass

        listener = threading.Thread(target=listen)
        listener.start()
        assert connected.wait(20)
        assert running.stopped(number) == code
        listener.join()
        assert running.files() == [] and [*running.folder.glob("mshnet-app-*")] == []


def predict(visitor: Visitor, count: int, rng: np.random.Generator, folder: Path) -> None:
    """Search new pictures, one after the other, as a visitor does."""
    for _ in range(count):
        path = folder / "new.png"
        noise = rng.integers(0, 40, (384, 384, 3), dtype=np.uint8)
        Image.fromarray(np.asarray(SOURCE.image(QUERY)) // 2 + noise).save(path)
        (queries,) = visitor.event("check", [visitor.upload(path)]).outputs or ()
        (found, download, *_) = visitor.event("segment", [None, queries, 0.5]).outputs or ()
        assert visitor.event("energy").outputs
        for picture in found:
            assert visitor.read(picture["image"]["path"]).status_code == 200
        assert visitor.read(download["value"]["path"]).status_code == 200


@pytest.mark.parametrize("count", [6, pytest.param(200, marks=pytest.mark.slow)])
def test_memory_after_many_predictions(server: Server, tmp_path: Path, pictures: dict[str, Path], count: int) -> None:
    visitor, rng = Visitor(server.url), np.random.default_rng(0)
    show(visitor, pictures)
    predict(visitor, count // 2, rng, tmp_path)
    first = server.resident()
    predict(visitor, count // 2, rng, tmp_path)
    last = server.resident()
    print(json.dumps({"predictions": count, "first MiB": first // MIB, "last MiB": last // MIB}))
    assert last < 1.1 * first


@pytest.mark.slow
def test_sessions_of_large_pictures_keep_little(checkpoint: Path, tmp_path: Path, pictures: dict[str, Path]) -> None:
    large = {**pictures, "query": flat(tmp_path / "large.png", 6300)}
    assert large["query"].stat().st_size < 140_000
    with serving(checkpoint, tmp_path) as running:
        sizes = []
        for _ in range(5):
            visitor = Visitor(running.url)
            (found, *_) = visitor.event("segment", [None, show(visitor, large), 0.5]).outputs or ()
            assert len(found) == 2
            sizes.append(running.resident())
        print(json.dumps({"resident MiB after each session": [size // MIB for size in sizes]}))
        assert sizes[-1] - sizes[0] < 4 * 30 * MIB


def test_masks_of_a_session_are_at_the_pictures_own_size(server: Server, pictures: dict[str, Path]) -> None:
    import zipfile

    visitor = Visitor(server.url)
    (_, download, *_) = visitor.event("segment", [None, show(visitor, pictures), 0.5]).outputs or ()
    with zipfile.ZipFile(io.BytesIO(visitor.read(download["value"]["path"]).content)) as archive:
        (name,) = archive.namelist()
        assert name == "1_query_mask.png" and Image.open(archive.open(name)).size == (384, 384)


def test_a_public_address_that_cannot_be_had_is_said(
    command: Command, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradio.networking.GRADIO_API_SERVER", "http://127.0.0.1:9")
    done = command("mshnet-app", f"ckpt={checkpoint}", f"port={free_port()}", "device=cpu", "share=true")
    assert done.code == 2 and "share=true: Could not get share link" in done.err and "Traceback" not in done.err
