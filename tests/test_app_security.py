"""What strangers, other sites and careless visitors can do to a running ``mshnet-app``: real requests to a real server."""

import http.client
import importlib.util
import io
import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app_pictures import QUERY, SOURCE, flat
from app_pictures import pictures as pictures
from local_server import serve as serve_files
from page_server import API, MIB, Server, Visitor, drawing, httpx, named, serving, show
from page_server import clients_are_closed as clients_are_closed

USED = ("/", "/theme.css", "/favicon.ico", f"{API}/upload_progress", f"{API}/queue/data", f"{API}/heartbeat/x")
"""What the page reads, but for its scripts and files."""


@pytest.fixture(scope="module")
def server(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(checkpoint, tmp_path_factory.mktemp("app"), "hosts=page.example, other.example") as running:
        yield running


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


def test_masks_of_a_session_are_at_the_pictures_own_size(server: Server, pictures: dict[str, Path]) -> None:
    import zipfile

    visitor = Visitor(server.url)
    (_, download, *_) = visitor.event("segment", [None, show(visitor, pictures), 0.5]).outputs or ()
    with zipfile.ZipFile(io.BytesIO(visitor.read(download["value"]["path"]).content)) as archive:
        (name,) = archive.namelist()
        assert name == "1_query_mask.png" and Image.open(archive.open(name)).size == (384, 384)
