"""FSS-1000: folds, the published episodes, masks, and the command line."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import SHARED
from mshnet_pl.cli import train
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.sources.fss1000 import Fss1000
from mshnet_pl.errors import DataError
from mshnet_pl.options import Protocol, Subset, ValClasses

LISTS = {"trn": ["zebra", "ant", "cup"], "val": ["bus", "owl"], "test": ["yak", "hat"]}
PUBLISHED = SHARED / "splits" / "fss"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten images of seven classes; masks in gray with soft edges, in three channels, and in two colours."""
    rng = np.random.default_rng(0)
    root = tmp_path / "fss"
    for name in (name for names in LISTS.values() for name in names):
        (root / "data" / name).mkdir(parents=True)
        for number in range(1, 11):
            Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)).save(root / f"data/{name}/{number}.jpg")
            gray = np.zeros((24, 32), np.uint8)
            gray[4:14, 5:20] = 255
            gray[14, 5:20], gray[3, 5:20] = 128, 127
            mask = Image.fromarray(gray)
            if number % 3 == 1:
                mask = mask.convert("RGB")
            elif number % 3 == 2:
                mask = Image.fromarray(gray >= 128)
            mask.save(root / f"data/{name}/{number}.png")
    (root / "lists").mkdir()
    for part, names in LISTS.items():
        (root / "lists" / f"{part}.txt").write_text("\n".join(names) + "\n")
    return root


def make(root: Path) -> Fss1000:
    return Fss1000(str(root / "data"), str(root / "lists"))


def test_one_fold_of_three_groups_of_classes(root: Path) -> None:
    source = make(root)
    assert source.classes == ("zebra", "ant", "cup", "bus", "owl", "yak", "hat")
    assert source.fold(0) == ((0, 1, 2), (5, 6)) and source.validation_classes == (3, 4)
    with pytest.raises(ValueError, match="fold=1: FSS-1000 has one fold"):
        source.fold(1)
    assert {c for _, c in source.pairs(Subset.TRAIN)} == {0, 1, 2}
    assert {c for _, c in source.pairs(Subset.VAL)} == {3, 4, 5, 6}
    assert [n for n, c in source.pairs(Subset.VAL) if c == 3] == [f"bus/{i}" for i in (1, 10, 2, 3, 4, 5, 6, 7, 8, 9)]


def test_masks_are_the_pixels_from_128_on(root: Path) -> None:
    source = make(root)
    expected = np.zeros((24, 32), np.uint8)
    expected[4:15, 5:20] = 1
    for name, c in (*source.pairs(Subset.TRAIN), *source.pairs(Subset.VAL)):
        mask = source.mask(name, [c])
        assert mask.dtype == np.uint8 and np.array_equal(mask, expected)
        assert not source.mask(name, [(c + 1) % 7]).any()
        assert source.image(name).size == (32, 24)


@pytest.mark.parametrize("shot", [1, 5])
def test_published_episodes_follow_the_field_s_sampler(root: Path, shot: int) -> None:
    datamodule = EpisodeDataModule(make(root), image_size=32)
    draws = [draw for (draw,) in datamodule.draws(2400, shot, 0, Protocol.published)]
    np.random.seed(0)
    queries = [f"{name}/{number}" for name in LISTS["test"] for number in sorted(map(str, range(1, 11)))]
    assert [draw.query for draw in draws] == queries
    for draw in draws:
        supports: list[str] = []
        while len(supports) < shot:
            number = np.random.choice(range(1, 11), 1, replace=False)[0]
            support = f"{draw.query.partition('/')[0]}/{number}"
            supports += [support] if support != draw.query else []
        assert list(draw.supports) == supports
    assert len(datamodule.draws(7, shot, 0, Protocol.published)) == 7


def test_validation_draws_on_its_own_classes(root: Path) -> None:
    held = EpisodeDataModule(make(root), image_size=32, val_classes=ValClasses.base_heldout, val_episodes=30)
    held.setup()
    assert {int(c) for batch in held.val_dataloader() for c in batch.class_id} == {3, 4}
    stream = held.train_dataloader()
    assert {stream.dataset._draw(n)[0].class_id for n in range(30)} == {0, 1, 2} and len(stream.dataset) == 30
    novel = EpisodeDataModule(make(root), image_size=32, val_episodes=30)
    novel.setup()
    assert {int(c) for batch in novel.val_dataloader() for c in batch.class_id} == {5, 6}


def test_every_fault_is_named(root: Path) -> None:
    Image.new("L", (20, 24)).save(root / "data/ant/3.png")
    (root / "data/yak/2.png").write_bytes((root / "data/yak/2.png").read_bytes()[:50])
    with pytest.raises(DataError, match=r"cannot be used:(.|\n)*ant/3\.png: 20 x 24 pixels.*32 x 24(.|\n)*yak/2\.png"):
        make(root).check()
    (root / "data/cup/10.jpg").unlink()
    with pytest.raises(DataError, match=r"missing:\n.*cup/10\.jpg"):
        make(root).check()
    (root / "data/hat").rename(root / "data/cap")
    with pytest.raises(DataError, match=r"no folders of these classes:\n  hat"):
        make(root).check()
    (root / "lists/val.txt").write_text("bus\nant\n")
    with pytest.raises(DataError, match=r"listed twice:\n  ant"):
        make(root)
    (root / "lists/val.txt").unlink()
    with pytest.raises(DataError, match=r"val\.txt is missing"):
        make(root)


def test_an_empty_mask_is_named_but_not_refused(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("L", (32, 24), 127).save(root / "data/ant/3.png")
    source = make(root)
    source.check()
    assert "the masks of ant/3 show no object" in caplog.text
    assert source.contents(Subset.TRAIN)["ant/3"] == set() and source.contents(Subset.TRAIN)["ant/4"] == {1}


def test_the_published_lists(tmp_path: Path) -> None:
    if not PUBLISHED.is_dir():
        pytest.skip(f"no split lists at {PUBLISHED}")
    source = Fss1000(str(tmp_path), str(PUBLISHED))
    assert [len(group) for group in (*source.fold(0), source.validation_classes)] == [520, 240, 240]
    assert source.classes[760] == (PUBLISHED / "test.txt").read_text().split()[0]
    novel = [pair for pair in source.pairs(Subset.VAL) if pair[1] >= 760]
    draws = source.published(novel, 1, 5000)
    assert len(draws) == 2400 == len({draw.query for (draw,) in draws})
    with pytest.raises(DataError, match="and 990 more"):
        source.check()


def test_the_command_line_trains_and_tests(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = "mshnet-train data=fss1000 backbone=efficientnet_lite0 recipe=demo data.image_size=64 data.batch_size=2"
    command += " model.width=16 trainer.max_steps=2 trainer.accelerator=cpu trainer.enable_progress_bar=false"
    command += f" val.episodes=2 val.every_n_steps=1 data.root={root / 'data'} data.splits_dir={root / 'lists'}"
    monkeypatch.setattr(sys, "argv", command.split())
    train.main()
    [path] = (tmp_path / "runs").rglob("result.json")
    result = json.loads(path.read_text())
    assert result["novel"] == ["yak", "hat"] and result["training"]["steps"] == 2
    assert result["tests"][0]["episodes"] == 20 and result["tests"][0]["protocol"] == "published"


def test_identity_changes_with_any_image(root: Path) -> None:
    source = make(root)
    source.check()
    before = source.identity()
    assert source.identity() == before
    os.utime(root / "data" / source.classes[0] / "3.jpg", ns=(1, 1))
    assert source.identity() != before
