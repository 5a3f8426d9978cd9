"""One's own images in folders: binary masks and label maps, folds, splits, and the command line."""

import os
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from folder_files import SHAPE, blob, draw, save
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.protocol.folds import make_fold
from mshnet_pl.data.sources import Coco20i, Folder, Fss1000, Pascal5i
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.options import NovelPixels, Subset

pytestmark = pytest.mark.usefixtures("own_cache")

CLASSES = ("bee", "cat", "cow", "dog", "emu")
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Five classes of eight images; masks of 0/1, 0/255, two colours, three channels, with alpha, of 16 bits."""
    rng = np.random.default_rng(0)
    root, masks = tmp_path / "own", {}
    for name in CLASSES:
        for number in range(8):
            image = f"{name}/images/{number}.{('jpg', 'png', 'bmp')[number % 3]}"
            draw(root / image, rng)
            masks[image] = blob(rng)
            gray, path = masks[image].astype(np.uint8), root / name / "masks" / f"{number}.png"
            kinds: list[Callable[[], None]] = [
                lambda p=path, g=gray: save(p, g),
                lambda p=path, g=gray: save(p, g * 255),
                lambda p=path, g=gray: save(p, g.astype(bool)),
                lambda p=path, g=gray: save(p, g * 255, "RGB"),
                lambda p=path, g=gray: save(p, g * 255, "RGBA"),
                lambda p=path, g=gray: save(p.with_suffix(".tif"), g.astype(np.uint16)),
            ]
            kinds[number % len(kinds)]()
        (root / name / "images" / ".DS_Store").write_text("hidden")
        (root / name / "images" / "notes.txt").write_text("no image")
    return root, masks


def labelled(root: Path, values: dict[str, int], images: int = 8) -> dict[str, np.ndarray]:
    """Label maps that show their own class at the left and the next class at the right, with an unknown rim."""
    rng, names, maps = np.random.default_rng(1), list(values), {}
    for at, name in enumerate(names):
        for number in range(images):
            draw(root / name / "images" / f"{number}.png", rng)
            labels = np.zeros(SHAPE, np.uint8)
            labels[2:9, 1:9] = values[name]
            if number % 2:
                labels[2:9, 12:20] = values[names[(at + 1) % len(names)]]
            labels[0] = 255
            save(root / name / "masks" / f"{number}.png", labels)
            maps[f"{name}/images/{number}.png"] = labels
    return maps


def test_masks_of_every_kind_are_read_as_drawn(tree: tuple[Path, dict[str, np.ndarray]]) -> None:
    root, masks = tree
    source = Folder(str(root))
    source.check()
    pairs = [*source.pairs(Subset.TRAIN), *source.pairs(Subset.VAL)]
    assert {name for name, _ in pairs} == set(masks) and source.classes == CLASSES
    for name, c in pairs:
        mask = source.mask(name, [c])
        assert mask.dtype == np.uint8 and np.array_equal(mask, masks[name])
        assert not source.mask(name, [(c + 1) % 5]).any()
        assert source.image(name).size == (26, 20) and source.image(name).mode == "RGB"
    assert source.contents(Subset.VAL) == {name: {c} for name, c in source.pairs(Subset.VAL)}


def test_the_split_follows_from_names(tree: tuple[Path, dict[str, np.ndarray]]) -> None:
    root, masks = tree
    for fraction in (0.3, 0.6):
        source = Folder(str(root), val_fraction=fraction)
        val = {name for name, _ in source.pairs(Subset.VAL)}
        assert val == {name for name in masks if zlib.crc32(name.encode()) < fraction * 2**32}
        assert {name for name, _ in source.pairs(Subset.TRAIN)} == set(masks) - val
        assert source.splits == "derived" and 0 < len(val) < len(masks)
    with pytest.raises(ConfigError, match=r"data\.source\.val_fraction=1\.5"):
        Folder(str(root), val_fraction=1.5)


def test_files_whose_names_are_no_utf_8(tree: tuple[Path, dict[str, np.ndarray]]) -> None:
    root, _ = tree
    odd = os.fsdecode(b"caf\xe9.png")
    for part in ("images", "masks"):
        (root / "cat" / part / "1.png").rename(root / "cat" / part / odd)
    source = Folder(str(root))
    source.check()
    assert f"cat/images/{odd}" in {name for subset in Subset for name, _ in source.pairs(subset)}
    assert source.image(f"cat/images/{odd}").size == (26, 20) and source.identity()
    (root / "cat").rename(root / os.fsdecode(b"caf\xe9"))
    with pytest.raises(DataError, match=r"the class 'caf\\udce9' is no text in UTF-8; give it another name"):
        Folder(str(root))


@pytest.mark.parametrize("place", ["~nouser-at-all/x", "x" * 300, "loop/x"])
def test_places_that_are_none(tmp_path: Path, place: str) -> None:
    os.symlink("loop", tmp_path / "loop")
    place = place if place.startswith("~") else str(tmp_path / place)
    for setting, make in (
        ("data.source.manifest", lambda: Folder(manifest=place)), ("data.root", lambda: Folder(place)),
        ("data.root", lambda: Pascal5i(place)), ("data.root", lambda: Fss1000(place, str(tmp_path))),
        ("data.splits_dir", lambda: Fss1000(str(tmp_path), place)), ("data.root", lambda: Coco20i(place)),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=rf"{setting}=.*; give another path"):
            make()


def test_folds_by_number_and_by_name(tree: tuple[Path, dict[str, np.ndarray]]) -> None:
    root, _ = tree
    source = Folder(str(root), folds=2)
    assert [source.fold(k).novel for k in range(2)] == [(0, 1, 2), (3, 4)]
    assert source.fold(1).base == (0, 1, 2)
    named = Folder(str(root), novel=["dog", "bee"])
    assert named.fold(0) == ((1, 2, 4), (0, 3))
    with pytest.raises(ValueError, match="give fold=0"):
        named.fold(1)
    with pytest.raises(ValueError, match="fold=2: there are folds 0 to 1"):
        source.fold(2)
    with pytest.raises(ValueError, match=r"data\.source\.folds=6: there are 5 classes"):
        Folder(str(root), folds=6).fold(0)
    with pytest.raises(ConfigError, match=r"data\.source\.novel: no class bird; there are bee, cat"):
        Folder(str(root), novel=["bird"])
    with pytest.raises(ConfigError, match=r"data\.source\.novel=.*but not all"):
        Folder(str(root), novel=CLASSES)


@pytest.mark.parametrize(("classes", "folds"), [(5, 2), (7, 3), (8, 4), (11, 4)])
def test_uneven_folds_are_numpy_s(classes: int, folds: int) -> None:
    expected = [tuple(part.tolist()) for part in np.array_split(np.arange(classes), folds)]
    assert [make_fold(k, classes, folds, uneven=True).novel for k in range(folds)] == expected


def test_label_maps_tell_of_other_classes(tmp_path: Path) -> None:
    values = {"bee": 3, "cat": 7, "dog": 200}
    maps = labelled(tmp_path / "own", values)
    source = Folder(str(tmp_path / "own"), mask_value=values, novel=["dog"])
    source.check()
    by_number = [3, 7, 200]
    for subset in Subset:
        for name, c in source.pairs(subset):
            for classes in ([c], [(c + 1) % 3], [0, 2]):
                expected = np.isin(maps[name], [by_number[k] for k in classes]).astype(np.uint8)
                shown = source.mask(name, classes)
                assert np.array_equal(shown == 1, expected == 1)
                assert ((shown == 255) == ((maps[name] == 255) & (c in classes))).all()
            assert source.contents(subset)[name] == {k for k in range(3) if (maps[name] == by_number[k]).any()}
    module = EpisodeDataModule(source, image_size=32, novel_pixels=NovelPixels.drop)
    module.setup()
    drawn = [module.train_dataloader().dataset._draw(n)[0] for n in range(60)]
    names = {name for d in drawn for name in (d.query, *d.supports)}
    assert names and not any((maps[name] == 200).any() for name in names)
    assert any((maps[name] == 200).any() for name, c in source.pairs(Subset.TRAIN) if c < 2)


@pytest.mark.parametrize(
    ("mask", "mask_value", "message"),
    [
        (np.arange(520).reshape(SHAPE) % 20, None, r"the values are 0 \(26 pixels\), 1 \(26\), .* and 8 more; "),
        (np.full(SHAPE, 3), None, r"the values are 3 \(520 pixels\); .*data\.source\.mask_value=VALUE"),
        (np.full(SHAPE, 3), 8, r"no pixel of value 8, only 3 \(520 pixels\); .*data\.source\.mask_value"),
        (np.zeros(SHAPE), None, r"no pixel of an object, only 0 "),
        (np.full((20, 20), 1), None, "20 x 20 pixels, but its image has 26 x 20"),
        (np.stack([np.indices(SHAPE)[0] * v for v in (9, 0, 3)], -1), None, "a coloured mask"),
    ],
)
def test_unexpected_masks_are_explained(tmp_path: Path, mask: np.ndarray, mask_value: int | None, message: str) -> None:
    draw(tmp_path / "cat/images/a.png", np.random.default_rng(0))
    save(tmp_path / "cat/masks/a.png", mask.astype(np.uint8))
    with pytest.raises(DataError, match=rf"cat/masks/a\.png: .*{message}"):
        Folder(str(tmp_path), mask_value=mask_value).check()


def test_a_changed_mask_value_is_checked_anew(tmp_path: Path) -> None:
    labelled(tmp_path / "own", {"bee": 3, "cat": 7})
    Folder(str(tmp_path / "own"), mask_value={"bee": 3, "cat": 7}).check()
    with pytest.raises(DataError, match=r"bee/masks/0\.png: no pixel of value 4, only 0 \(438 pixels\), 3 \(56\), 255"):
        Folder(str(tmp_path / "own"), mask_value={"bee": 4, "cat": 7}).check()
    with pytest.raises(ConfigError, match=r"data\.source\.mask_value: no class cow"):
        Folder(str(tmp_path / "own"), mask_value={"cow": 4})


def test_files_that_do_not_pair_off_are_named(tree: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    root, _ = tree
    (root / "cat/masks/1.png").unlink()
    (root / "dog/images/2.png").write_bytes((root / "dog/images/1.png").read_bytes())
    (root / "fox/images").mkdir(parents=True)
    with pytest.raises(DataError) as error:
        Folder(str(root))
    for problem in ("cat: 1 has 1 images and 0 masks", "dog: 2 has 2 images and 1 masks", "fox: no folder masks"):
        assert problem in str(error.value)
    with pytest.raises(DataError, match="no such folder"):
        Folder(str(tmp_path / "gone"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no CLASS/images"):
        Folder(str(tmp_path / "empty"))


@pytest.fixture
def run(train_tiny: Run) -> Run:
    return partial(train_tiny, "data=folder")


def test_the_command_line_trains_on_folders(tree: tuple[Path, dict[str, np.ndarray]], run: Run) -> None:
    result = run(f"data.root={tree[0]}", "data.source.folds=2", "fold=1", "data.source.val_fraction=0.5")
    assert result["novel"] == ["dog", "emu"] and result["training"]["steps"] == 2 and result["splits"] == "derived"


def test_the_command_line_takes_classes_and_their_values(tmp_path: Path, run: Run) -> None:
    labelled(tmp_path / "own", {"bee": 3, "cat": 7, "dog": 9})
    values = "data.source.mask_value={bee:3,cat:7,dog:9}"
    result = run(f"data.root={tmp_path / 'own'}", "data.source.novel=[dog]", values, "data.novel_pixels=ignore")
    assert result["novel"] == ["dog"] and result["tests"][0]["episodes"] == 4


def test_the_command_line_explains_masks(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    labelled(tmp_path / "own", {"bee": 3, "cat": 7})
    with pytest.raises(SystemExit, match="2"):
        run(f"data.root={tmp_path / 'own'}", "data.source.folds=2")
    message = capsys.readouterr().err
    assert "data.source.mask_value=VALUE" in message and "Traceback" not in message


def test_identity_changes_with_any_image(tree: tuple[Path, dict[str, np.ndarray]]) -> None:
    root, masks = tree
    before = Folder(str(root)).identity()
    assert Folder(str(root)).identity() == before
    os.utime(root / next(iter(masks)), ns=(1, 1))
    assert Folder(str(root)).identity() != before
