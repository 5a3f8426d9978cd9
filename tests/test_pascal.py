"""PASCAL-5i on files: the lists, the masks, and what is said of damaged ones."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import MINI
from mshnet_pl.data.sources.pascal5i import Pascal5i
from mshnet_pl.data.sources.verification import Files, take_inventory
from mshnet_pl.errors import DataError
from mshnet_pl.options import Subset
from mshnet_pl.utils.hashing import checksum


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_lists_and_masks_of_real_files() -> None:
    if not MINI.is_dir():
        pytest.skip(f"no {MINI}")
    source = Pascal5i(str(MINI), str(MINI / "splits"))
    source.check()
    assert source.splits == "published"
    assert len(source.pairs(Subset.TRAIN)) == 656 and len(source.pairs(Subset.VAL)) == 663
    assert source.pairs(Subset.VAL)[0] == ("2007_000033", 0)
    for name, class_id in source.pairs(Subset.VAL)[::50]:
        labels = np.asarray(Image.open(MINI / "SegmentationClassAug" / f"{name}.png"))
        mask = source.mask(name, [class_id])
        np.testing.assert_array_equal(mask, np.where(labels == 255, 255, labels == class_id + 1))
        assert source.image(name).size == labels.shape[::-1] and source.image(name).mode == "RGB"
        held = set(np.unique(labels[(labels > 0) & (labels < 255)]) - 1)
        assert set(source.contents(Subset.VAL)[name]) == held and class_id in held


def test_derived_lists(pascal_root: Path) -> None:
    with pytest.raises(DataError, match=r"val\.txt is missing(.|\n)*published lists"):
        Pascal5i(str(pascal_root)).check()
    lists = pascal_root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("\n".join(p.stem for p in sorted((pascal_root / "JPEGImages").glob("val_*"))))
    big = np.zeros((60, 60), np.uint8)
    big[:40, :52] = 3  # 2,080 pixels; all other objects are smaller than 2,048
    for name in ("trn_03_0", "val_03_1"):
        Image.fromarray(big).save(pascal_root / "SegmentationClassAug" / f"{name}.png")
        Image.new("RGB", (60, 60)).save(pascal_root / "JPEGImages" / f"{name}.jpg")
    source = Pascal5i(str(pascal_root))
    source.check()
    assert source.splits == "derived"
    assert source.pairs(Subset.TRAIN) == [("trn_03_0", 2)] and source.pairs(Subset.VAL) == [("val_03_1", 2)]


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root=.*no folder JPEGImages"):
        Pascal5i(str(tmp_path))


def test_every_bad_file_is_named(pascal_root: Path) -> None:
    images, masks = pascal_root / "JPEGImages", pascal_root / "SegmentationClassAug"
    truncated = images / "trn_01_0.jpg"
    truncated.write_bytes(truncated.read_bytes()[:500])
    (images / "trn_01_1.jpg").write_text("not an image")
    Image.fromarray(np.zeros((9, 11), np.uint8)).save(masks / "trn_01_2.png")
    mask = np.array(Image.open(masks / "val_02_0.png"))
    mask[0, 0] = 37
    Image.fromarray(mask).save(masks / "val_02_0.png")
    Image.new("RGB", (5, 5)).save(masks / "val_02_1.png")
    with pytest.raises(DataError) as caught:
        Pascal5i(str(pascal_root), str(pascal_root / "splits")).check()
    message = str(caught.value)
    for part in (
        "trn_01_0.jpg: ",
        "trn_01_1.jpg: no image of a format that is read",
        "trn_01_2.png: 11 x 9 pixels, but its image has",
        "val_02_0.png: labels [37]",
        "val_02_1.png: mode RGB",
    ):
        assert part in message
    assert len(message.splitlines()) == 7


def test_a_line_that_names_a_missing_image_is_named(pascal_root: Path) -> None:
    path = pascal_root / "splits" / "val" / "fold1.txt"
    path.write_text(path.read_text() + "2007_999999__06\n")
    with pytest.raises(DataError, match=r"fold1\.txt:16: 2007_999999: no file .*2007_999999\.jpg"):
        Pascal5i(str(pascal_root), str(pascal_root / "splits")).check()


def test_the_inventory_is_remembered_until_a_file_changes(pascal_root: Path, tmp_path: Path) -> None:
    files = {
        name: Files(pascal_root / "JPEGImages" / f"{name}.jpg", pascal_root / "SegmentationClassAug" / f"{name}.png")
        for name in ("trn_01_0", "trn_02_0")
    }
    first = take_inventory(files, 20, tmp_path / "own")
    mask = np.array(Image.open(files["trn_01_0"].mask))
    assert first["trn_01_0"] == {label - 1: int((mask == label).sum()) for label in np.unique(mask) if 0 < label < 255}
    (remembered,) = (tmp_path / "own").iterdir()
    assert take_inventory(files, 20, tmp_path / "own") == first
    areas = remembered.read_bytes().partition(b"\n")[2].replace(str(first["trn_01_0"][0]).encode(), b"7")
    remembered.write_bytes(checksum(remembered.name, areas).hex().encode() + b"\n" + areas)
    assert take_inventory(files, 20, tmp_path / "own")["trn_01_0"][0] == 7  # it is read, not computed again
    mask[:] = 9
    Image.fromarray(mask).save(files["trn_01_0"].mask)
    assert take_inventory(files, 20, tmp_path / "own")["trn_01_0"] == {8: mask.size}
