"""What a running ``mshnet-app`` keeps, and for how long: uploads, events, sessions, and files after the stop."""

import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app_pictures import flat
from app_pictures import pictures as pictures
from conftest import Command
from page_server import API, MIB, Visitor, answers, free_port, httpx, serving, show
from page_server import clients_are_closed as clients_are_closed


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


def test_a_public_address_that_cannot_be_had_is_said(
    command: Command, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gradio.networking.GRADIO_API_SERVER", "http://127.0.0.1:9")
    done = command("mshnet-app", f"ckpt={checkpoint}", f"port={free_port()}", "device=cpu", "share=true")
    assert done.code == 2 and "share=true: Could not get share link" in done.err and "Traceback" not in done.err
