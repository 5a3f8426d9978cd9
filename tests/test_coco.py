"""COCO-20i: masks beside pycocotools' own, lists, both image layouts, the index on disk, and the command line."""

import os
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from coco_tree import draw_coco, name
from conftest import SHARED
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.sources.coco20i import Coco20i
from mshnet_pl.errors import DataError
from mshnet_pl.options import NovelPixels, Subset

MINI = SHARED / "data" / "coco20i_mini"
PUBLISHED = SHARED / "splits" / "coco"
Run = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def mini() -> Path:
    if not MINI.is_dir():
        pytest.skip(f"no COCO images at {MINI}")
    return MINI


def check_masks(source: Coco20i, root: Path) -> int:
    """Compare every image's mask of every class with pycocotools' annotations; how many masks show something."""
    shown = 0
    for subset in ("train", "val"):
        reference = COCO(root / "annotations" / f"instances_{subset}2014.json")
        class_of = {category: c for c, category in enumerate(sorted(reference.cats))}
        for image in reference.imgs.values():
            union = np.zeros((80, image["height"], image["width"]), np.uint8)
            for annotation in reference.imgToAnns[image["id"]]:
                if not annotation["iscrowd"]:
                    union[class_of[annotation["category_id"]]] |= reference.annToMask(annotation)
            there = [c for c in range(80) if union[c].any()]
            for c in there:
                mask = source.mask(name(subset, image["id"]), [c])
                assert mask.dtype == np.uint8 and np.array_equal(mask, union[c])
            for several in (there[:3], [c for c in range(80) if c not in there]):
                assert np.array_equal(source.mask(name(subset, image["id"]), several), union[several].max(0, initial=0))
            shown += len(there)
    return shown


def test_masks_equal_pycocotools_on_real_images(mini: Path) -> None:
    source = Coco20i(str(mini))
    source.check()
    assert check_masks(source, mini) > 600


def test_masks_equal_pycocotools_on_every_kind_of_annotation(tmp_path: Path) -> None:
    root = draw_coco(tmp_path / "coco")
    source = Coco20i(str(root))
    source.check()
    assert check_masks(source, root) == 2 * 24 * 2


def test_derived_lists_count_large_enough_classes(mini: Path) -> None:
    source = Coco20i(str(mini))
    source.check()
    assert source.splits == "derived"
    for subset, folder in ((Subset.TRAIN, "train"), (Subset.VAL, "val")):
        reference = COCO(mini / "annotations" / f"instances_{folder}2014.json")
        listed, contents, known = set(source.pairs(subset)), source.contents(subset), sorted(reference.cats)
        for image in reference.imgs.values():
            classes = {known.index(annotation["category_id"]) for annotation in reference.imgToAnns[image["id"]]}
            areas = {c: int(source.mask(name(folder, image["id"]), [c]).sum()) for c in classes}
            assert {c for c in range(80) if (name(folder, image["id"]), c) in listed} == {
                c for c, area in areas.items() if area >= 2048
            }
            if name(folder, image["id"]) in contents:
                assert set(contents[name(folder, image["id"])]) == {c for c, area in areas.items() if area}


def test_drop_leaves_no_novel_pixel_in_training(mini: Path) -> None:
    source = Coco20i(str(mini))
    module = EpisodeDataModule(source, fold=0, image_size=32, batch_size=4, min_images=2)
    module.setup()
    stream = module.train_dataloader()
    assert len(stream) == 7500 // 4
    drawn = [stream.dataset._draw(number)[0] for number in range(200)]
    assert len({draw.class_id for draw in drawn}) > 5
    for draw in drawn:
        assert draw.class_id % 4 != 0
        for image in (draw.query, *draw.supports):
            assert source.mask(image, [draw.class_id]).any()
            assert not source.mask(image, module.fold.novel).any()
    keep = EpisodeDataModule(source, fold=0, image_size=32, batch_size=4, min_images=2, novel_pixels=NovelPixels.keep)
    keep.setup()
    kept = [keep.train_dataloader().dataset._draw(number)[0] for number in range(200)]
    assert any(source.mask(draw.query, module.fold.novel).any() for draw in kept)


def test_images_of_the_2014_and_the_2017_layout(tmp_path: Path) -> None:
    root = draw_coco(tmp_path / "coco")
    source = Coco20i(str(root))
    source.check()
    names = [n for subset in Subset for n, _ in source.pairs(subset)]
    before = {n: np.asarray(source.image(n)) for n in names}
    (root / "train2017").mkdir(), (root / "val2017").mkdir()
    for number, file in enumerate([*(root / "train2014").iterdir(), *(root / "val2014").iterdir()]):
        file.rename(root / ("val2017" if number % 5 == 0 else "train2017") / file.name[-16:])
    moved = Coco20i(str(root))
    moved.check()
    assert moved.pairs(Subset.VAL) == source.pairs(Subset.VAL)
    assert all(np.array_equal(np.asarray(moved.image(n)), before[n]) for n in names)
    gone = next((root / "train2017").iterdir())
    gone.unlink()
    with pytest.raises(DataError, match=rf"1 images are missing:\n.*{gone.name}\n.*train2017"):
        Coco20i(str(root)).check()


def test_damaged_and_wrong_images_are_named_when_read(tmp_path: Path) -> None:
    root = draw_coco(tmp_path / "coco")
    source = Coco20i(str(root))
    source.check()
    (small, _), (cut, _) = source.pairs(Subset.TRAIN)[:2]
    Image.new("RGB", (30, 20)).save(root / small)
    with pytest.raises(DataError, match=r"\.jpg: 30 x 20 pixels, but its annotations are for 96 x 64"):
        source.image(small)
    (root / cut).write_bytes((root / cut).read_bytes()[:800])
    with pytest.raises(DataError, match=rf"{cut} cannot be read"):
        source.image(cut)


def _write_lists(folder: Path, lists: dict[str, dict[int, list[str]]]) -> Path:
    for path, by_class in lists.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(pickle.dumps({c: by_class.get(c, []) for c in range(80)}))
    return folder


def test_published_lists_are_joined_and_a_fold_without_lists_is_refused(tmp_path: Path) -> None:
    root = draw_coco(tmp_path / "coco", range(80), images=1)
    derived = Coco20i(str(root))
    derived.check()
    names = {subset: {c: n for n, c in derived.pairs(subset)} for subset in Subset}
    base = [{c: [n] for c, n in names[Subset.TRAIN].items() if c % 4 != fold} for fold in range(4)]
    novel = [{c: [n] for c, n in names[Subset.VAL].items() if c % 4 == fold} for fold in range(4)]
    splits = _write_lists(tmp_path / "splits", {"trn/fold0.pkl": base[0], "val/fold0.pkl": novel[0]})
    source = Coco20i(str(root), str(splits))
    assert source.splits == "published" and source.fold(0).novel == tuple(range(0, 80, 4))
    with pytest.raises(DataError, match=r"fold=1 needs lists of person, airplane(.|\n)*put trn/fold1\.pkl there"):
        source.fold(1)
    _write_lists(splits, {"trn/fold2.pkl": base[2], "val/fold1.pkl": novel[1]})
    source = Coco20i(str(root), str(splits))
    assert source.fold(1).novel == tuple(range(1, 80, 4))
    with pytest.raises(DataError, match=r"needs lists of car, train(.|\n)*put val/fold2\.pkl there"):
        Coco20i(str(root), str(_write_lists(tmp_path / "w", {"trn/fold2.pkl": base[2], "val/fold0.pkl": {}}))).fold(2)
    source.check()
    assert sorted(source.pairs(Subset.TRAIN)) == sorted((n, c) for c, n in names[Subset.TRAIN].items())
    assert sorted(source.pairs(Subset.VAL)) == sorted((n, c) for c, n in names[Subset.VAL].items() if c % 4 < 2)


@pytest.mark.parametrize("strange", ["train2014/COCO_train2014_000000099999.jpg", "val2014/000000000001.jpg", "x"])
def test_lists_of_other_images_are_refused(tmp_path: Path, strange: str) -> None:
    root = draw_coco(tmp_path / "coco", images=1)
    splits = _write_lists(tmp_path / "splits", {"trn/fold0.pkl": {1: [strange]}, "val/fold0.pkl": {0: []}})
    with pytest.raises(DataError, match=rf"instances_train2014\.json lacks:\n  {strange}"):
        Coco20i(str(root), str(splits)).check()


def test_a_folder_without_lists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no fold0\.pkl to fold3\.pkl in .*trn"):
        Coco20i(str(draw_coco(tmp_path / "coco", images=1)), str(tmp_path))


@pytest.mark.slow
def test_the_published_lists_cover_fold_0(mini: Path) -> None:
    if not PUBLISHED.is_dir():
        pytest.skip(f"no split lists at {PUBLISHED}")
    source = Coco20i(str(mini), str(PUBLISHED))
    assert source.fold(0).novel[:3] == (0, 4, 8)
    with pytest.raises(DataError, match=r"put trn/fold2\.pkl there"):
        source.fold(2)
    with pytest.raises(DataError, match="lacks"):
        source.check()


@pytest.fixture
def run(train_tiny: Run) -> Run:
    return partial(train_tiny, "data=coco20i")


@pytest.mark.parametrize(("protocol", "workers"), [("seeded", 0), ("published", 1)])
def test_the_command_line_trains_and_tests(mini: Path, run: Run, protocol: str, workers: int) -> None:
    result = run(f"data.root={mini}", "data.min_images=2", f"test.protocol={protocol}", f"data.num_workers={workers}")
    assert result["training"]["steps"] == 2 and result["splits"] == "derived"
    assert result["novel"][:2] == ["person", "airplane"] and result["removed_images"] > 0
    assert result["tests"][0]["episodes"] == 4 and 0 <= result["tests"][0]["miou"] <= 100


def test_the_command_line_names_every_class_with_too_few_images(
    mini: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(f"data.root={mini}")
    message = capsys.readouterr().err
    assert "shot=1 needs 2 images a class" in message and "data.min_images=2" in message and "Traceback" not in message
    lines = {line.strip() for line in message.splitlines()}
    assert {"hot dog (class 52): 1 for testing", "hair drier (class 78): 0 for training"} <= lines
    assert {"toaster (class 70): 1 for training"} <= lines


def test_identity_changes_with_any_image(tmp_path: Path) -> None:
    root = draw_coco(tmp_path / "coco")
    source = Coco20i(str(root))
    source.check()
    before = source.identity()
    assert source.identity() == before
    os.utime(root / source.pairs(Subset.VAL)[0][0], ns=(1, 1))
    assert source.identity() != before
