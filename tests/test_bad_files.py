"""Image files of every kind and in every state: read right, named, or gone without in a way that repeats."""

import io
import json
import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import Command
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.io.images import read_image
from mshnet_pl.data.protocol.sampling import Draw, Draws, draw_seeded, without
from mshnet_pl.data.protocol.split_lists import by_class
from mshnet_pl.data.sources.folder import Folder
from mshnet_pl.data.sources.folder_masks import read_values
from mshnet_pl.data.sources.pascal5i import Pascal5i
from mshnet_pl.data.sources.verification import read_labels
from mshnet_pl.episode import Episode
from mshnet_pl.errors import DataError
from mshnet_pl.options import BadFiles, NovelPixels, Protocol, Subset

COMMAND = (
    "data=pascal5i", "backbone=efficientnet_lite0", "recipe=demo", "data.image_size=48", "data.batch_size=2",
    "data.novel_pixels=keep", "trainer.max_steps=12", "trainer.enable_progress_bar=false", "trainer.accelerator=cpu",
    "model.width=4", "test.episodes=6", "test.pictures=0", "logger=none", "threads=1",
)  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def scene() -> tuple[np.ndarray, np.ndarray]:
    """(40, 60, 3) image of a light object at the upper left, and its (40, 60) mask."""
    mask = np.zeros((40, 60), np.uint8)
    mask[4:16, 8:32] = 1
    image = np.where(mask[..., None] == 1, [230, 200, 90], [20, 40, 70]).astype(np.uint8)
    return image, mask


def stored(kind: str) -> tuple[Image.Image, dict[str, object], np.ndarray]:
    """The scene as a file of some kind: what to save, how, and the RGB image that is to be read."""
    image, _ = scene()
    gray = np.repeat(image[..., :1], 3, axis=2)
    if kind == "cmyk":
        return Image.fromarray(image).convert("CMYK"), {"format": "JPEG", "quality": 100, "subsampling": 0}, image
    if kind == "gray":
        return Image.fromarray(image[..., 0]), {"format": "PNG"}, gray
    if kind == "16 bits":
        return Image.fromarray(image[..., 0].astype(np.uint16) * 257), {"format": "PNG"}, gray
    if kind == "palette":
        return Image.fromarray(image).quantize(8), {"format": "PNG"}, image
    if kind == "transparent":
        alpha = np.full((40, 60, 1), 255, np.uint8)
        return Image.fromarray(np.concatenate([image, alpha], axis=2)), {"format": "PNG"}, image
    turned = np.rot90(image)  # to be shown turned clockwise
    exif = Image.Exif()
    exif[0x0112] = 6
    return (
        Image.fromarray(np.ascontiguousarray(turned)),
        {"format": "JPEG", "quality": 100, "subsampling": 0, "exif": exif},
        image,
    )


def own(root: Path, kind: str) -> Folder:
    """Two classes of an image each, whose files are of that kind."""
    for name in ("cat", "dog"):
        for folder in ("images", "masks"):
            (root / name / folder).mkdir(parents=True)
        image, how, _ = stored(kind)
        image.save(root / name / "images" / "1.jpg", **how)  # type: ignore[arg-type]  # Pillow goes by the format
        Image.fromarray(scene()[1]).save(root / name / "masks" / "1.png")
    return Folder(str(root), novel=["cat"])


@pytest.mark.parametrize("kind", ["cmyk", "gray", "16 bits", "palette", "transparent", "turned"])
def test_files_of_every_kind(tmp_path: Path, kind: str) -> None:
    source = own(tmp_path / "own", kind)
    source.check()
    expected = stored(kind)[2].astype(int)
    read = np.asarray(source.image("cat/images/1.jpg")).astype(int)
    assert read.shape == expected.shape and abs(read - expected).mean() < 3  # of JPEG
    mask = source.mask("cat/images/1.jpg", [0])
    assert read[mask == 1].mean() > 130 > 60 > read[mask == 0].mean()


def test_whose_pixels_are_turned(tmp_path: Path, pascal_root: Path) -> None:
    """One's own as their EXIF orientation says, image and mask alike; a benchmark's as they are stored."""
    source = own(tmp_path / "own", "turned")
    path = tmp_path / "own" / "cat" / "masks" / "1.png"
    Image.fromarray(np.ascontiguousarray(np.rot90(scene()[1]))).save(path)
    with pytest.raises(DataError, match=r"cat/masks/1.png: 40 x 60 pixels, but its image has 60 x 40"):
        source.check()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(scene()[1]))).save(path, exif=exif)
    source.check()
    assert np.array_equal(source.mask("cat/images/1.jpg", [0]), scene()[1])
    image = pascal_root / "JPEGImages" / "trn_06_0.jpg"
    with Image.open(image) as picture:
        picture.save(image.with_suffix(".turned"), "JPEG", exif=exif, quality="keep")
    image.with_suffix(".turned").replace(image)
    with Image.open(image) as picture:
        before = np.asarray(picture)
    benchmark = Pascal5i(str(pascal_root), str(pascal_root / "splits"))
    benchmark.check()
    assert np.array_equal(np.asarray(benchmark.image("trn_06_0")), before)


def test_damaged_bytes_are_one_error(tmp_path: Path) -> None:
    """Bytes changed and cut off at random: an image, or a message that names the file."""
    rng = random.Random(0)
    image, mask = scene()
    outcomes = {"read": 0, "named": 0}
    path = tmp_path / "victim"
    for form in ("JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP"):
        content = io.BytesIO()
        Image.fromarray(image).save(content, form)
        small = io.BytesIO()
        Image.fromarray(mask).save(small, "PNG" if form in ("JPEG", "WEBP") else form)
        for read, whole in (
            (read_image, content.getvalue()),
            (read_labels, small.getvalue()),
            (lambda damaged: read_values(damaged, 1), small.getvalue()),
        ):
            for _ in range(40):
                damaged = bytearray(whole[: rng.randint(1, len(whole))] if rng.random() < 0.4 else whole)
                for _ in range(rng.randint(1, 4)):
                    damaged[rng.randrange(len(damaged))] = rng.randrange(256)
                path.write_bytes(damaged)
                try:
                    assert read(path).size  # type: ignore[operator]
                    outcomes["read"] += 1
                except (DataError, ValueError) as error:
                    assert str(path) in str(error)
                    outcomes["named"] += 1
    assert min(outcomes.values()) > 50


def module(root: Path, bad_files: BadFiles, workers: int = 0, **settings: int) -> EpisodeDataModule:
    made = EpisodeDataModule(
        Pascal5i(str(root), str(root / "splits")), image_size=32, batch_size=4, novel_pixels=NovelPixels.keep,
        bad_files=bad_files, num_workers=workers, **{"shot": 1, **settings},
    )  # fmt: skip
    made.setup()
    return made


def same(a: Episode, b: Episode) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rows(batches: Iterator[Episode], count: int) -> list[Episode]:
    """Episodes one by one."""
    return [Episode(*(part[i : i + 1] for part in batch)) for batch in islice(batches, count) for i in range(len(batch[0]))]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_breaks_on_the_way(pascal_root: Path, workers: int) -> None:
    """Episodes without it stay as they are; those with it are as if it had been known from the start."""
    expected = rows(iter(module(pascal_root, BadFiles.error).train_dataloader()), 12)
    victim = module(pascal_root, BadFiles.error).training_draws(21)[0].query
    running = module(pascal_root, BadFiles.skip, workers).train_dataloader()
    batches = iter(running)
    first = rows(batches, 1)
    spoil(pascal_root / "JPEGImages" / f"{victim}.jpg")
    second = rows(batches, 5)
    state = running.state_dict()
    third = rows(batches, 6)
    later = module(pascal_root, BadFiles.skip, 2 - workers)  # where the start sees it
    assert victim in later.bad and "truncated" in later.bad[victim]
    known = rows(iter(later.train_dataloader()), 12)
    resumed = later.train_dataloader()
    resumed.load_state_dict(state)
    assert all(map(same, rows(iter(resumed), 6), third))
    assert resumed.replaced == running.replaced > 0
    plain = module(pascal_root, BadFiles.skip)
    plain.bad.clear()
    affected = []
    for number, episode in enumerate([*first, *second, *third]):
        draw = plain.training_draws(number)[0]
        hit = victim in (draw.query, *draw.supports)
        affected += [number] * hit
        if number >= 4 * 4:  # what was read beforehand saw the file whole
            assert same(episode, known[number])
        assert same(episode, expected[number]) or hit
        assert int(episode.class_id[0]) == draw.class_id
    assert 21 in affected and sum(not same(known[n], expected[n]) for n in affected) == len(affected)


@pytest.mark.parametrize("workers", [0, 2])
def test_without_leave_it_is_one_message(pascal_root: Path, workers: int) -> None:
    made = module(pascal_root, BadFiles.error, workers)
    draws = made.draws(40, 1, 0, Protocol.seeded)
    made.use_test_episodes(draws)
    spoil(pascal_root / "SegmentationClassAug" / f"{draws[30][0].supports[0]}.png")
    with pytest.raises(DataError) as raised:
        list(made.test_dataloader())
    text = str(raised.value)
    assert f"{draws[30][0].supports[0]}.png" in text and "data.bad_files=skip" in text
    assert "Traceback" not in text and "worker" not in text
    with pytest.raises(DataError, match=r"JPEGImages.*no such|No such file"):
        (pascal_root / "JPEGImages" / f"{draws[0][0].query}.jpg").unlink()
        list(made.images([made.image_names.index(draws[0][0].query)]))


def test_what_cannot_be_read_does_not_count_for_a_class(pascal_root: Path) -> None:
    source = Pascal5i(str(pascal_root), str(pascal_root / "splits"))
    source.check()
    images = by_class(source.pairs(Subset.VAL))
    fewest = min(len(images[c]) for c in range(5))
    spoil(pascal_root / "JPEGImages" / f"{images[0][0]}.jpg")
    made = module(pascal_root, BadFiles.skip, min_images=fewest)
    assert len(images[0]) == fewest and {draw.class_id for (draw,) in made.draws(60, 1, 0, Protocol.seeded)} == {1, 2, 3, 4}


def test_other_episodes_in_their_place() -> None:
    """Whatever is known when: the first usable images of one shuffled list a class, against a loop that knows everything."""
    names = {c: [f"{c}-{i}" for i in range(12)] + ["shared"] for c in range(4)}
    rng = random.Random(1)
    for number in range(200):
        way, shot = 1 + number % 3, 1 + number % 2
        drawn = draw_seeded(names, [0, 1, 2, 3], shot, 5, number, way)
        truth = {name for listed in names.values() for name in listed if rng.random() < 0.4}
        known: set[str] = {name for name in truth if rng.random() < 0.3}
        while True:  # as a data set finds out
            made = without(names, 5, drawn, number, known)
            met = [name for draw in made for name in (draw.query, *draw.supports) if name in truth]
            if not met:
                break
            known.add(met[0])
        images = [name for draw in drawn for name in (draw.query, *draw.supports)]
        assert made == (drawn if truth.isdisjoint(images) else loop(names, 5, drawn, number, truth))
        distinct = [made[0].query, *(name for draw in made for name in draw.supports)]
        assert len(set(distinct)) == len(distinct) and [d.class_id for d in made] == [d.class_id for d in drawn]
    with pytest.raises(DataError, match="too few are left of class 0"):
        without(names, 0, (Draw("0-0", ("0-1",), 0),), 0, set(names[0][:12]))


def loop(names: dict[int, list[str]], seed: int, drawn: Draws, number: int, truth: set[str]) -> Draws:
    generator = np.random.default_rng((seed, 3, number))
    taken: list[str] = []
    made = []
    for place, draw in enumerate(drawn):
        own: list[str] = []
        for i in generator.permutation(len(names[draw.class_id])):
            name = names[draw.class_id][i]
            if name not in truth and name not in taken and len(own) < len(draw.supports) + (place == 0):
                own.append(name)
                taken.append(name)
        query = own.pop(0) if place == 0 else made[0].query
        made.append(Draw(query, tuple(own), draw.class_id))
    return tuple(made)


def write(path: Path, mask: np.ndarray) -> None:
    Image.fromarray(mask).save(path)


DAMAGE: dict[str, Callable[[Path, Path], object]] = {
    "trn_06_0": lambda image, mask: spoil(image),
    "trn_07_1": lambda image, mask: image.write_bytes(b""),
    "trn_08_0": lambda image, mask: mask.unlink(),
    "val_02_1": lambda image, mask: write(mask, np.zeros((9, 11), np.uint8)),
    "trn_09_2": lambda image, mask: write(mask, np.zeros((50, 50, 3), np.uint8)),
    "trn_10_0": lambda image, mask: image.unlink(),
}


def test_a_run_goes_without_them(command: Command, pascal_root: Path, tmp_path: Path) -> None:
    """Damaged at the start, and one on the way: the result names them all; without leave it is one message."""
    more_images(pascal_root)
    for name, damage in DAMAGE.items():
        damage(pascal_root / "JPEGImages" / f"{name}.jpg", pascal_root / "SegmentationClassAug" / f"{name}.png")
    places = (f"data.root={pascal_root}", f"data.splits_dir={pascal_root}/splits")
    done = command("mshnet-train", *COMMAND, *places)
    assert done.code == 2 and "Traceback" not in done.err and "trn_08_0" in done.err and "trn_10_0" in done.err
    victim = module(pascal_root, BadFiles.skip).training_draws(20)[0].query
    breaks = ("data.source._target_=broken_source.Breaks", f"+data.source.victim=JPEGImages/{victim}.jpg")
    done = command("mshnet-train", *COMMAND, *places, *breaks, "data.bad_files=skip", "data.num_workers=1")
    assert done.code == 0, done.err
    result = json.loads(next((tmp_path / "runs").rglob("result.json")).read_text())
    assert result["bad_files"].keys() == {*DAMAGE, victim} and result["training"]["replaced_episodes"] > 0
    for name in DAMAGE:
        assert name in result["bad_files"][name]
    done = command("mshnet-train", *COMMAND, *places, "data.bad_files=skip", "test.protocol=published", "test.episodes=40")
    assert done.code == 2 and "published test episodes need" in done.err and "val_02_1" in done.err


def test_a_file_that_breaks_ends_a_run_with_one_message(command: Command, pascal_root: Path) -> None:
    places = (f"data.root={pascal_root}", f"data.splits_dir={pascal_root}/splits", "data.num_workers=2")
    breaks = ("data.source._target_=broken_source.Breaks", "+data.source.victim=JPEGImages/trn_06_1.jpg")
    done = command("mshnet-train", *COMMAND, *places, *breaks)
    assert done.code == 2 and done.err.count("error: ") == 1 and "Traceback" not in done.err
    assert "trn_06_1.jpg" in done.err and "truncated" in done.err and "worker process" not in done.err


def test_tiny_empty_and_full(command: Command, pascal_root: Path, tmp_path: Path) -> None:
    """An image of one pixel, masks without the object and of nothing but it: trained and tested on as they are."""
    for subset in ("trn", "val"):
        for label in range(1, 21):
            for i, name in enumerate(f"{subset}_{label:02d}_{i}" for i in range(3)):
                path = pascal_root / "SegmentationClassAug" / f"{name}.png"
                if i == 0:
                    Image.new("RGB", (1, 1), (90, 20, 30)).save(pascal_root / "JPEGImages" / f"{name}.jpg")
                    write(path, np.full((1, 1), label, np.uint8))
                else:
                    shape = read_labels(path).shape
                    write(path, np.full(shape, label if i == 1 else 0, np.uint8))
    done = command(
        "mshnet-train", *COMMAND, f"data.root={pascal_root}", f"data.splits_dir={pascal_root}/splits", "test.episodes=20"
    )
    assert done.code == 0, done.err
    assert "masks do not show the class of" in done.err and "trn_06_2__06" in done.err and "trn_06_1" not in done.err
    (test,) = json.loads(next((tmp_path / "runs").rglob("result.json")).read_text())["tests"]
    assert 0 <= test["miou"] <= 100 and test["union"]


def more_images(root: Path) -> None:
    """Twice as many of each class, so that some may be missed."""
    for subset in ("trn", "val"):
        for fold in range(4):
            path = root / "splits" / subset / f"fold{fold}.txt"
            lines = path.read_text().split()
            for line in lines:
                name = line.partition("__")[0]
                for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClassAug", "png")):
                    content = (root / folder / f"{name}.{suffix}").read_bytes()
                    (root / folder / f"{name}b.{suffix}").write_bytes(content)
            path.write_text("\n".join([*lines, *(line.replace("__", "b__") for line in lines)]) + "\n")
