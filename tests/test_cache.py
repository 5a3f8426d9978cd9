"""The cache of images: it changes nothing, is really used, keeps to its budget, and as a file outlives the process."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from conftest import Command
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.loading.dataset import EpisodeDataset, collate
from mshnet_pl.data.loading.image_cache import ImageCache
from mshnet_pl.data.protocol.sampling import Draw, Draws
from mshnet_pl.data.sources.pascal5i import Pascal5i
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.episode import Episode
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.options import NovelPixels
from tiny import TINY

SIZE = 33
RECORD = 4 + SIZE * SIZE * 3
NAMES = [f"val-{c:02d}-0000" for c in range(20)]


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def pascal(root: Path, **settings: object) -> EpisodeDataModule:
    source = Pascal5i(str(root), str(root / "splits"))
    module = EpisodeDataModule(source, image_size=SIZE, batch_size=4, novel_pixels=NovelPixels.keep, **settings)  # type: ignore[arg-type]
    module.setup()
    return module


def episodes(module: EpisodeDataModule, batches: int = 20) -> Episode:
    return Episode(*map(torch.cat, zip(*islice(iter(module.train_dataloader()), batches), strict=True)))


def same(a: Episode, b: Episode) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def spoil(root: Path) -> None:
    """Every image becomes rubbish."""
    for path in (root / "JPEGImages").iterdir():
        path.write_bytes(b"\0" * path.stat().st_size)


class Once(Synthetic):
    """Images that cannot be read once the file ``gone`` exists."""

    def __init__(self, gone: Path) -> None:
        super().__init__(SIZE)
        self._gone = gone

    def image(self, name: str) -> Image.Image:
        if self._gone.exists():
            raise OSError(f"{name} is gone")
        return super().image(name)


def draw(number: int) -> Draws:
    return (Draw(NAMES[number % 20], (NAMES[(number + 1) % 20],), number % 20),)


def picture(value: int) -> torch.Tensor:
    return torch.full((SIZE, SIZE, 3), value, dtype=torch.uint8)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_cache_changes_no_episode_and_is_used(pascal_root: Path, tmp_path: Path, workers: int, on_disk: bool) -> None:
    expected = episodes(pascal(pascal_root, shot=2))
    cached = pascal(
        pascal_root, shot=2, num_workers=workers, cache_mb=1, cache_dir=str(tmp_path / "images") if on_disk else None
    )
    assert same(expected, episodes(cached))
    spoil(pascal_root)
    assert same(expected, episodes(cached))  # by other worker processes than before
    with pytest.raises(DataError, match="no image of a format that is read"):
        episodes(pascal(pascal_root, shot=2))


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_worker_processes_share_it(tmp_path: Path, context: str) -> None:
    def read(workers: int = 2) -> list[Episode]:
        how = context if workers else None
        return list(DataLoader(dataset, 5, num_workers=workers, collate_fn=collate, multiprocessing_context=how))

    dataset = EpisodeDataset(Once(tmp_path / "gone"), draw, 20, SIZE, cache=ImageCache(NAMES, SIZE, 1))
    first = read()
    (tmp_path / "gone").touch()
    for workers in (2, 0) if context == "fork" else (0,):  # spawned processes take long to start
        assert all(same(a, b) for a, b in zip(first, read(workers), strict=True))
    plain = EpisodeDataset(Synthetic(SIZE), draw, 20, SIZE)
    assert all(same(a, b) for a, b in zip(first, DataLoader(plain, 5, collate_fn=collate), strict=True))


@pytest.mark.parametrize("on_disk", [False, True])
def test_budget(tmp_path: Path, on_disk: bool) -> None:
    names = [f"image {i}" for i in range(2**20 // RECORD + 50)]
    cache = ImageCache(names, SIZE, 1, str(tmp_path) if on_disk else None)
    for i, name in enumerate(names):
        assert torch.equal(cache.get(name, lambda i=i: picture(i % 256)), picture(i % 256))  # type: ignore[misc]
    made: list[str] = []
    for i, name in enumerate(names):
        found = cache.get(name, lambda i=i, name=name: made.append(name) or picture(i % 256))  # type: ignore[misc]
        assert torch.equal(found, picture(i % 256))
    assert len(made) == 50
    assert cache.get("a stranger", lambda: picture(7))[0, 0, 0] == 7
    if on_disk:
        (path,) = tmp_path.iterdir()
        assert path.stat().st_size == len(names) * RECORD and path.stat().st_blocks * 512 <= 2**20 + 8192
    with pytest.raises(ConfigError, match=r"data\.cache_mb=1: .* give at least 3"):
        ImageCache(names, 1000, 1)


def test_names_that_are_no_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    cache = ImageCache([name, "a.png"], SIZE, 1, str(tmp_path))
    for _ in range(2):
        assert (cache.get(name, lambda: torch.full((SIZE, SIZE, 3), 7, dtype=torch.uint8)) == 7).all()
    with pytest.raises(ConfigError, match=r"data\.cache_dir=~nouser-at-all/x: there is no user ~nouser-at-all; give"):
        ImageCache(["a.png"], SIZE, 1, "~nouser-at-all/x")


def test_what_the_cache_gives_may_be_changed() -> None:
    cache = ImageCache(["a"], SIZE, 1)
    for _ in range(3):
        cache.get("a", lambda: picture(1)).zero_()
    assert (cache.get("a", lambda: picture(2)) == 1).all()


def test_damaged_records_are_made_anew(tmp_path: Path) -> None:
    cache = ImageCache(["a", "b"], SIZE, 1, str(tmp_path))
    for name in "ab":
        cache.get(name, lambda: picture(3))
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[RECORD // 2] ^= 1
    path.write_bytes(data)
    made: list[int] = []
    for _ in range(2):
        for name in "ab":
            assert torch.equal(cache.get(name, lambda: made.append(1) or picture(3)), picture(3))  # type: ignore[func-returns-value]
    assert len(made) == 1
    path.unlink()
    with pytest.raises(DataError, match=r"data\.cache_dir=.*No such file.*data\.cache_dir=null"):
        cache.get("a", lambda: picture(3))


FRESH = """
import sys, torch
from itertools import islice
from pathlib import Path
from mshnet_pl.options import NovelPixels
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.sources.pascal5i import Pascal5i
root, folder, out, *spoilt = sys.argv[1:]
module = EpisodeDataModule(
    Pascal5i(root, root + "/splits"), image_size=33, batch_size=4, novel_pixels=NovelPixels.keep,
    cache_mb=1, cache_dir=folder,
)
module.setup()
for path in Path(root, "JPEGImages").iterdir() if spoilt else ():
    path.write_bytes(b"")
torch.save([tuple(batch) for batch in islice(iter(module.train_dataloader()), 20)], out)
"""


@pytest.mark.slow
def test_a_fresh_process_reuses_the_file(pascal_root: Path, tmp_path: Path) -> None:
    def run(*spoilt: str) -> Episode:
        arguments = [str(pascal_root), str(tmp_path / "images"), str(tmp_path / "out.pt"), *spoilt]
        subprocess.run([sys.executable, "-c", FRESH, *arguments], check=True)
        return Episode(*map(torch.cat, zip(*torch.load(tmp_path / "out.pt"), strict=True)))

    expected = episodes(pascal(pascal_root))
    assert same(expected, run())
    pascal(pascal_root, fold=1, cache_mb=1, cache_dir=str(tmp_path / "images"))
    assert len(list((tmp_path / "images").iterdir())) == 1  # the folds share the file
    assert same(expected, run("without the images"))


def test_changed_images_are_read_again(pascal_root: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "images")
    episodes(pascal(pascal_root, cache_mb=1, cache_dir=folder))
    for path in (pascal_root / "JPEGImages").iterdir():
        with Image.open(path) as image:
            turned = Image.fromarray(255 - np.asarray(image))
        turned.save(path)
    assert same(episodes(pascal(pascal_root)), episodes(pascal(pascal_root, cache_mb=1, cache_dir=folder)))
    assert len(list((tmp_path / "images").iterdir())) == 2


def test_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pascal_root: Path) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 1000))
    with pytest.raises(DataError, match=r"data\.cache_dir: the images need .* MB more in .*make room"):
        pascal(pascal_root, cache_mb=1, cache_dir=str(tmp_path / "images"))
    if Path("/dev/shm").is_dir():
        with pytest.raises(DataError, match=r"data\.cache_mb: the images need .* MB more in /dev/shm"):
            pascal(pascal_root, cache_mb=1)
    monkeypatch.undo()
    (tmp_path / "a file").touch()
    with pytest.raises(DataError, match=r"data\.cache_dir=.*give another folder"):
        ImageCache(NAMES, SIZE, 1, str(tmp_path / "a file"))
    with pytest.raises(DataError, match="Synthetic does not tell when an image changes"):
        EpisodeDataModule(Synthetic(SIZE), image_size=SIZE, cache_mb=1, cache_dir=str(tmp_path)).setup()


def test_settings_reach_the_run_and_only_augmentation_makes_another(command: Command, tmp_path: Path) -> None:
    tiny = (*TINY, "data.image_size=64", "data.source.train_images=9", "data.source.val_images=2", "trainer.max_steps=1")
    done = command("mshnet-train", *tiny, "data.cache_mb=3")
    assert done.code == 0 and "data.cache_mb=3: " in done.out + done.err
    again = command("mshnet-train", *tiny)
    assert again.code == 0 and "already done" in again.out + again.err
    other = command(
        "mshnet-train", *tiny, "data.augment.flip=true", "data.augment.crop_scale=0.5", "data.augment.jitter=0.2"
    )
    assert other.code == 0 and "already done" not in other.out + other.err
    assert len(list((tmp_path / "runs").rglob("result.json"))) == 2
    refused = command("mshnet-train", *tiny, "data.cache_dir=images")
    assert refused.code == 2 and "data.cache_dir=images needs a budget" in refused.out + refused.err
