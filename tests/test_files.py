"""Files that are whole or not there: many processes at once, killed ones, errors on the way."""

import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from mshnet_pl.errors import DataError
from mshnet_pl.utils.files import sync_all, whole_file, whole_path, write_whole
from mshnet_pl.utils.hashing import weights_digest
from mshnet_pl.utils.reference import published_numbers

SIZE = 200_000
KILLED = """
import os, signal, sys
from pathlib import Path
from mshnet_pl.utils.files import whole_file
with whole_file(Path(sys.argv[1])) as file:
    file.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def write_often(path: Path, letter: str) -> None:
    for _ in range(10):
        write_whole(path, letter.encode() * SIZE)


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_many_processes_and_a_reader(tmp_path: Path) -> None:
    """Whoever reads meanwhile sees what one of them wrote, all of it; nothing else is left in the end."""
    path = tmp_path / "file"
    write_whole(path, b"a" * SIZE)
    context = multiprocessing.get_context("fork")  # these processes need nothing imported
    writers = [context.Process(target=write_often, args=(path, letter)) for letter in "bcd"]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        content = path.read_bytes()
        assert len(content) == SIZE and len({*content}) == 1
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert os.listdir(tmp_path) == ["file"]


def test_an_error_on_the_way_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    for error in (ValueError("bad"), KeyboardInterrupt(), OSError("a damaged archive")):
        with pytest.raises(type(error)), whole_file(path) as file:
            file.write(b"half")
            raise error
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["file"]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "full").mkdir(parents=True)
    for path in (tmp_path / "file" / "below", tmp_path / "folder"):
        with pytest.raises(DataError, match=rf"^{path} cannot be written: .*make room, or mend that"):
            write_whole(path, b"content")
    assert {*os.listdir(tmp_path)} == {"file", "folder"}


def test_the_version_before_and_folders(tmp_path: Path) -> None:
    last, previous = tmp_path / "new" / "last", tmp_path / "new" / "previous"
    for number in (b"1", b"2", b"3"):
        write_whole(last, number, previous)
    assert (last.read_bytes(), previous.read_bytes()) == (b"3", b"2")
    with whole_path(tmp_path / "folder") as partial:
        partial.mkdir()
        (partial / "a").write_text("content")
        assert os.listdir(tmp_path / "new") and not (tmp_path / "folder").exists()
    assert (tmp_path / "folder" / "a").read_text() == "content" and {*os.listdir(tmp_path)} == {"new", "folder"}


def test_permissions_are_those_of_any_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with whole_file(tmp_path / "whole", sync=False) as file:
        file.write(b"content")
    sync_all()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "whole")]
    assert modes[0] == modes[1]


def test_names_as_long_as_they_may_be(tmp_path: Path) -> None:
    for name in ("x" * 255, "ä" * 127):
        write_whole(tmp_path / name, b"content")
        assert (tmp_path / name).read_bytes() == b"content"


def test_what_killed_processes_leave(tmp_path: Path) -> None:
    """The next process that writes to the folder removes it, at once where it can know, otherwise after a day."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "file")])
    assert done.returncode == -signal.SIGKILL
    (leftover,) = os.listdir(tmp_path)
    _, machine, process, _ = leftover.split("-")
    own = f".mshnet-{machine}-{os.getpid()}-01234567.part"
    elsewhere, old = f".mshnet-other-{process}-01234567.part", f".mshnet-other-{process}-76543210.part"
    strange = ["others.part", ".mshnet-a-b.part", f".mshnet-{machine}-{10**30}-01234567.part"]
    for name in (own, elsewhere, old, *strange):
        (tmp_path / name).touch()
    yesterday = time.time() - 100_000
    os.utime(tmp_path / old, (yesterday, yesterday))
    with whole_file(tmp_path / "file") as file:
        file.write(b"whole")
    assert {*os.listdir(tmp_path)} == {"file", own, elsewhere, *strange}
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_digests_of_weights() -> None:
    """They follow names and values, in every type, and nothing else."""
    torch.manual_seed(0)
    first, second = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    assert weights_digest(first) != weights_digest(second)
    second.load_state_dict(first.state_dict())
    assert weights_digest(first) == weights_digest(second)
    with torch.no_grad():
        second[0].bias[1] += 1e-6
    assert weights_digest(first) != weights_digest(second)
    assert weights_digest(first.bfloat16()) != weights_digest(first.float())
    assert weights_digest(nn.ModuleDict({"a": first[0]})) != weights_digest(nn.ModuleDict({"b": first[0]}))


def test_the_published_numbers_are_there() -> None:
    assert sum(len(fold) for fold in published_numbers()["table1_pascal_train_images"].values()) == 20
