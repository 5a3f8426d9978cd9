"""A disk that fills while a run writes: a small tmpfs of its own."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import tiny
from conftest import Command
from mshnet_pl import Segmenter, results
from mshnet_pl.data.loading.feature_cache import FeatureFile, FeatureShape
from mshnet_pl.data.loading.image_cache import ImageCache
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.errors import DataError
from mshnet_pl.utils.checkpoint_file import read_checkpoint
from report_runs import config, write_run
from voc_files import Drawn

TINY = (*tiny.TINY, "trainer.max_steps=5", "save_every_n_steps=1", "test.pictures=1", "logger=csv")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[int], None]]]:
    """An empty folder on a disk of its own, and how to set the disk's size in bytes."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(*options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", folder], check=True, capture_output=True)

    try:
        mount("-o", "size=1m")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a disk of its own needs the right to mount: {error}")
    try:
        yield folder, lambda size: mount("-o", f"remount,size={size}")
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path) -> Path:
    """Take all the room that is left."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    assert shutil.disk_usage(folder).free == 0
    return path


def test_a_checkpoint(command: Command, tmp_path: Path, small_disk: tuple[Path, Callable[[int], None]]) -> None:
    """The third save finds no room: both earlier checkpoints stay, and with more room the run goes on as if nothing was."""
    disk, resize = small_disk
    settings = (*TINY, "logger=none")
    assert command("mshnet-train", *settings).code == 0
    (expected,) = (tmp_path / "runs").rglob("last.ckpt")
    resize(int(2.5 * expected.stat().st_size))
    done = command("mshnet-train", *settings, f"runs={disk}/runs")
    assert done.code == 2 and "Traceback" not in done.err, done.err
    assert "last.ckpt cannot be written: No space left on device" in done.err and "make room" in done.err
    (last,) = disk.rglob("last.ckpt")
    assert read_checkpoint(last)["global_step"] == 2 and read_checkpoint(last.with_name("previous.ckpt"))["global_step"] == 1
    assert {path.name for path in last.parent.iterdir()} == {"last.ckpt", "previous.ckpt"}
    resize(6 * expected.stat().st_size)
    done = command("mshnet-train", *settings, f"runs={disk}/runs")
    assert done.code == 0, done.err
    states = [read_checkpoint(path)["state_dict"] for path in (expected, last)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_a_full_disk_at_the_start(command: Command, small_disk: tuple[Path, Callable[[int], None]]) -> None:
    disk, _ = small_disk
    fill(disk)
    for arguments in ((), ("-m", "seed=0,1")):
        done = command("mshnet-train", *arguments, *TINY, f"runs={disk}/runs")
        assert done.code in (1, 2) and "No space left on device" in done.err and "make room" in done.err, done.err
        assert "Traceback" not in done.err


def test_results_counts_and_failures(
    command: Command, tmp_path: Path, small_disk: tuple[Path, Callable[[int], None]]
) -> None:
    disk, _ = small_disk
    assert command("mshnet-train", *TINY).code == 0
    (path,) = (tmp_path / "runs").rglob("result.json")
    result = results.load(path)
    counts = path.with_name("episodes_last_1shot_seed0.csv")
    for source in (path, counts):
        shutil.copy(source, disk)
    filler = fill(disk)
    before = {source.name: (disk / source.name).read_bytes() for source in (path, counts)}
    many = [[n, 0, 1, 1, 1, 9] for n in range(1000)]
    tries: list[Callable[[], Any]] = [
        lambda: results.save(disk, result),
        lambda: results.save_counts(disk / counts.name, many),
        lambda: results.save_failure(disk, ["fold=0"], "error", disk / "log"),
    ]
    for attempt in tries:
        with pytest.raises(DataError, match=r"No space left on device.*make room"):
            attempt()
    assert {name: (disk / name).read_bytes() for name in before} == before
    assert {p.name for p in disk.iterdir()} == {*before, "filler"}
    filler.unlink()
    results.save_counts(disk / counts.name, many)
    assert len((disk / counts.name).read_text().splitlines()) == 1001
    assert json.loads(results.save(disk, result).read_text())["config_hash"] == result.config_hash


def settled(folder: Path) -> dict[str, bytes]:
    """What is in a folder, at any depth."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_predictions(
    command: Command, checkpoint: Path, tmp_path: Path, small_disk: tuple[Path, Callable[[int], None]]
) -> None:
    """With overwrite=true too every file is the earlier or the new one, and the message names the first that is earlier."""
    disk, _ = small_disk
    source = Synthetic(size=70)
    for part in ("support/images", "support/masks", "query"):
        (tmp_path / part).mkdir(parents=True)
    source.image("val-00-0000").save(tmp_path / "support" / "images" / "a.png")
    Image.fromarray(255 * source.mask("val-00-0000", [0])).save(tmp_path / "support" / "masks" / "a.png")
    for number in (1, 2):
        source.image(f"val-00-000{number}").save(tmp_path / "query" / f"{number}.png")
    settings = (f"ckpt={checkpoint}", "support=support", "query=query", f"out={disk}/out", "overwrite=true")
    assert command("mshnet-predict", *settings, "threshold=0.3").code == 0
    before = settled(disk / "out")
    room = fill(disk).stat().st_size
    os.truncate(disk / "filler", room - 4096)  # enough for a mask, not for an overlay
    done = command("mshnet-predict", *settings, "threshold=0.6")
    assert done.code == 2 and "Traceback" not in done.err
    assert re.search(r"out/\S+\.(png|json) cannot be written: No space left on device.*make room", done.err), done.err
    after = settled(disk / "out")
    assert after.keys() == before.keys() and all(
        after[name] == before[name] for name in ("contact_sheet.png", "predictions.json", "1_overlay.png", "2_overlay.png")
    )
    for name in after.keys() - {"predictions.json"}:
        with Image.open(disk / "out" / name) as image:
            image.load()
    (disk / "filler").unlink()
    assert command("mshnet-predict", *settings, "threshold=0.6").code == 0
    assert settled(disk / "out")["predictions.json"] != before["predictions.json"]


def test_the_report(command: Command, tmp_path: Path, small_disk: tuple[Path, Callable[[int], None]]) -> None:
    disk, _ = small_disk
    write_run(tmp_path / "runs", config(), 0.6, 40, pictures=True)
    report = ("mshnet-report", tmp_path / "runs", f"html={disk / 'report.html'}")
    assert command(*report, f"pictures={disk}").code == 0
    before = settled(disk)
    filler = fill(disk)
    for name, pictures in (("episodes_1shot.png", disk), ("report.html", tmp_path)):
        done = command(*report, f"pictures={pictures}", "episodes=2")
        assert done.code == 2 and "Traceback" not in done.err
        assert f"{disk / name} cannot be written: No space left on device" in done.err and "make room" in done.err
        assert settled(disk) == {**before, "filler": filler.read_bytes()}
    filler.unlink()
    assert command(*report, f"pictures={disk}", "episodes=2").code == 0
    after = settled(disk)
    assert after.keys() == before.keys() and all(after[name] != before[name] for name in before)


def test_folders_that_may_only_be_read(
    command: Command, other: Path, tmp_path: Path, small_disk: tuple[Path, Callable[[int], None]]
) -> None:
    """A finished run, its report and a data set on a disk that is mounted read-only: one message, and all is as it was."""
    disk, resize = small_disk
    resize(20 << 20)
    Drawn().write_archives(disk)
    source = Synthetic(size=70)
    for part in ("images", "masks"):
        (tmp_path / "support" / part).mkdir(parents=True)
    source.image("val-00-0000").save(tmp_path / "support" / "images" / "a.png")
    Image.fromarray(255 * source.mask("val-00-0000", [0])).save(tmp_path / "support" / "masks" / "a.png")
    write_run(disk / "done", config(), 0.6, 40)
    before = settled(disk)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for name, *arguments in (
        ("train", *tiny.TINY, f"runs={disk}/runs"),
        ("train", "-m", *tiny.TINY, "seed=0,1", f"runs={disk}/runs"),
        ("test", f"ckpt={other}", f"runs={disk}/runs"),
        ("predict", f"ckpt={other}", "support=support", "query=support/images/a.png", f"out={disk}/out"),
        ("report", disk / "done"),
        ("prepare", "data=pascal5i", f"data.root={disk}", "any_archive=true"),
    ):
        done = command(f"mshnet-{name}", *arguments)
        assert done.code == 2 and "Traceback" not in done.out + done.err, done.err
        files = 2 if name == "prepare" else 1  # one for each archive
        assert done.err.count("Read-only file system") == files and str(disk) in done.err, done.err
    assert settled(disk) == before


@pytest.mark.slow
def test_exported_networks_and_supports(
    command: Command, checkpoint: Path, small_disk: tuple[Path, Callable[[int], None]]
) -> None:
    disk, _ = small_disk
    source = Synthetic(size=70)
    segmenter = Segmenter.from_checkpoint(checkpoint).fit(source.image("val-00-0000"), source.mask("val-00-0000", [0]))
    for name in ("net.pt2", "net.pt2.md", "supports"):
        (disk / name).write_text("before")
    fill(disk)
    before = settled(disk)
    done = command(
        "mshnet-export", f"ckpt={checkpoint}", "format=torch_export", f"out={disk}/net.pt2", "shots=1", "overwrite=true"
    )
    assert done.code == 2 and f"{disk}/net.pt2 cannot be written: No space left on device" in done.err, done.err
    with pytest.raises(DataError, match=r"supports cannot be written: No space left on device.*make room"):
        segmenter.save_support(disk / "supports", overwrite=True)
    assert settled(disk) == before


def test_the_image_cache(small_disk: tuple[Path, Callable[[int], None]]) -> None:
    """Its file has holes, so the disk can fill after the start: what is kept stays readable, the rest is an error."""
    disk, _ = small_disk
    names = [f"image {n}" for n in range(40)]
    images = {name: torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8) for name in names}
    cache = ImageCache(names, 64, 1, str(disk), "these images")
    for name in names[:10]:
        assert torch.equal(cache.get(name, lambda n=name: images[n]), images[name])  # type: ignore[misc]
    filler = fill(disk)
    with pytest.raises(DataError, match=r"data\.cache_dir=.*No space left on device.*data\.cache_dir=null"):
        for name in names[10:]:
            cache.get(name, lambda n=name: images[n])  # type: ignore[misc]
    os.unlink(filler)
    again = ImageCache(names, 64, 1, str(disk), "these images")
    decoded = []

    def make(name: str) -> torch.Tensor:
        decoded.append(name)
        return images[name]

    for name in names:
        assert torch.equal(again.get(name, lambda n=name: make(n)), images[name])  # type: ignore[misc]
    assert decoded[:1] and not set(decoded) & set(names[:10])


def test_the_feature_cache(small_disk: tuple[Path, Callable[[int], None]]) -> None:
    """Others take the room that was there at the start: what is kept stays, and the rest is computed once there is room."""
    disk, _ = small_disk
    names = [f"image {n}" for n in range(10)]
    kept = [torch.randn(1, 2, 8, 20, 20) for _ in names]
    blocks = [FeatureShape((2, 20, 20, 8), torch.float32)]
    cache = FeatureFile(str(disk), ["these features"], names, blocks)
    ids = range(len(names))
    assert cache.absent(ids) == [*ids]
    for i in ids[:3]:
        cache.put(i, (kept[i],))
    filler = fill(disk)
    with pytest.raises(DataError, match=r"data\.feature_cache=.*No space left on device.*make room"):
        for i in ids[3:]:
            cache.put(i, (kept[i],))
    with pytest.raises(DataError, match=r"the features need .* MB more.*make room"):
        cache.absent(ids)
    os.unlink(filler)
    again = FeatureFile(str(disk), ["these features"], names, blocks)
    absent = again.absent(ids)
    assert {*absent} >= {*ids[4:]} and not {*absent} & {*ids[:3]}
    for i in absent:
        again.put(i, (kept[i],))
    (found,) = again.get(ids, lambda i: (kept[i],))
    assert torch.equal(found, torch.cat(kept))
