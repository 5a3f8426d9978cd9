"""Fetching from a server on this machine: resumed, checked, and refused."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_server import Server, serve
from mshnet_pl.data.prepare.download import fetch
from mshnet_pl.errors import DataError

CONTENT = bytes(range(256)) * 4096
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve({"file": CONTENT}) as server:
        yield server


def test_fetches(server: Server, tmp_path: Path) -> None:
    fetch(f"{server.address}/file", tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_goes_on_where_the_connection_was_lost(server: Server, tmp_path: Path) -> None:
    server.most = 300_000
    for got in (300_000, 600_000, 900_000):
        with pytest.raises(DataError, match=f"connection was lost at {got:,} of {len(CONTENT):,} bytes; run this again"):
            fetch(f"{server.address}/file", tmp_path / "file", MD5)
        assert (tmp_path / "file.part").stat().st_size == got and not (tmp_path / "file").exists()
    fetch(f"{server.address}/file", tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_starts_anew_where_the_server_cannot_go_on(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "file.part").write_bytes(b"x" * 1000)
    fetch(f"{server.address}/file", tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_whole_part_only_gets_its_name(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT)
    fetch(f"{server.address}/file", tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT and not (tmp_path / "file.part").exists()


def test_too_long_a_part_is_removed(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(CONTENT + b"more")
    with pytest.raises(DataError, match="was removed; run this again"):
        fetch(f"{server.address}/file", tmp_path / "file", MD5)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_checksum_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(b"x" * 1000)  # of another file
    with pytest.raises(DataError, match=f"is not the published {MD5}; it was removed, run this again"):
        fetch(f"{server.address}/file", tmp_path / "file", MD5)
    assert list(tmp_path.iterdir()) == []
    fetch(f"{server.address}/file", tmp_path / "file", MD5)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_says_why_nothing_came(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"404(.|\n)*put it at .*gone"):
        fetch(f"{server.address}/gone", tmp_path / "gone")
    with pytest.raises(DataError, match=r"refused(.|\n)*by other means"):
        fetch("http://127.0.0.1:9/file", tmp_path / "file")
