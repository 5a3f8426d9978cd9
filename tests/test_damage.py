"""Random damage of every file that is read: a message, a right result or a cache that is made anew, and soon."""

import json
import logging
import multiprocessing
import os
import pickle
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from coco_tree import draw_coco
from damage import damaged
from mshnet_pl import Segmenter, results
from mshnet_pl.cli import train
from mshnet_pl.data.io.annotations import read_annotations
from mshnet_pl.data.io.manifest import read_manifest
from mshnet_pl.data.io.masks import read_mask
from mshnet_pl.data.loading.feature_cache import FeatureFile, FeatureShape
from mshnet_pl.data.loading.image_cache import ImageCache
from mshnet_pl.data.protocol.split_lists import read_pickle_list, read_text_lists
from mshnet_pl.data.sources import Pascal5i
from mshnet_pl.data.sources.coco_index import CocoIndex, open_index
from mshnet_pl.data.sources.folder_masks import read_values
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.data.sources.verification import Files, take_inventory
from mshnet_pl.errors import DataError, UserError
from mshnet_pl.report.collection import collect
from mshnet_pl.report.figures import episode_pictures
from mshnet_pl.report.notes import doubts
from tiny import TINY

TRIES = [8, pytest.param(300, marks=pytest.mark.slow)]
SECONDS = 10
MEGABYTES = 2048


@contextmanager
def soon() -> Iterator[None]:
    """Ends what takes longer than ten seconds."""

    def end(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fuzz(paths: list[Path], tries: int, read: Callable[[], Any], seed: int = 0) -> dict[str, int]:
    """How many damaged files were refused, and how many were read; anything else is an error of the test.

    Args:
        paths: one of them is damaged at a time; what ``read`` makes of it is undone.
        tries: how often.
        read: reads it; fails where a result is wrong.
        seed: of the damage.
    """
    rng, counts, whole = random.Random(seed), {"refused": 0, "read": 0}, {path: path.read_bytes() for path in paths}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(tries):
        path = rng.choice(paths)
        path.write_bytes(damaged(whole[path], rng))
        try:
            with soon():
                read()
            counts["read"] += 1
        except UserError as error:
            assert str(error).strip()
            counts["refused"] += 1
        for other, content in whole.items():
            other.parent.mkdir(parents=True, exist_ok=True)
            other.write_bytes(content)
    print(f"{len(paths)} files, {tries} tries: {counts}")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + MEGABYTES * 1024  # other tests share the process
    return counts


@pytest.mark.parametrize("tries", TRIES)
def test_an_inventory_is_made_anew(pascal_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, tries: int) -> None:
    names = [path.stem for path in sorted((pascal_root / "JPEGImages").iterdir())][:8]
    parts = ("JPEGImages", ".jpg"), ("SegmentationClassAug", ".png")
    files = {name: Files(*(pascal_root / part / f"{name}{end}" for part, end in parts)) for name in names}
    expected = take_inventory(files, 20, tmp_path / "own")
    (cache,) = (tmp_path / "own").iterdir()

    def read() -> None:
        assert take_inventory(files, 20, tmp_path / "own") == expected

    assert fuzz([cache], tries, read) == {"refused": 0, "read": tries}
    assert len(caplog.records) == tries and all("is damaged" in record.message for record in caplog.records)
    other = {name: files[name] for name in names[:4]}
    take_inventory(other, 20, tmp_path / "own")
    (second,) = {*(tmp_path / "own").iterdir()} - {cache}
    second.write_bytes(cache.read_bytes())  # a good one in the place of another
    assert take_inventory(other, 20, tmp_path / "own").keys() == other.keys()


def seen(index: CocoIndex) -> tuple[Any, ...]:
    ids = index.image_ids()
    return ids, [*index.shown()], index.large(0), [index.mask(i, range(80)).tobytes() for i in ids], [*map(index.size, ids)]


@pytest.mark.parametrize("tries", TRIES)
def test_a_coco_index_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture, tries: int) -> None:
    annotations = draw_coco(tmp_path / "coco", range(2)) / "annotations" / "instances_val2014.json"
    expected = seen(open_index(annotations, 80, tmp_path / "cache"))
    (folder,) = (tmp_path / "cache").iterdir()

    def read() -> None:
        assert seen(open_index(annotations, 80, tmp_path / "cache")) == expected

    assert fuzz(sorted(folder.iterdir()), tries, read) == {"refused": 0, "read": tries}
    assert len(caplog.records) == tries and all("is damaged; made anew" in record.message for record in caplog.records)


@pytest.mark.parametrize("tries", TRIES)
def test_a_feature_cache_is_made_anew(tmp_path: Path, tries: int) -> None:
    names = [f"image {i}" for i in range(6)]
    features = [torch.randn(1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(i)) for i in range(6)]
    shapes = [FeatureShape((2, 4, 4, 3), torch.float32)]

    def opened(identity: str = "this") -> FeatureFile:
        return FeatureFile(str(tmp_path), [identity], names, shapes)

    def read(identity: str = "this") -> None:
        cache = opened(identity)
        for i in cache.absent(range(6)):
            cache.put(i, (features[i],))
        (found,) = cache.get(range(6), lambda i: (features[i],))
        assert torch.equal(found, torch.cat(features))

    read()
    (path,) = tmp_path.glob("*.bin")
    assert fuzz([path], tries, read) == {"refused": 0, "read": tries}
    features = [x + 1 for x in features]  # another network's, of the same images
    other = opened("other")
    (second,) = {*tmp_path.glob("*.bin")} - {path}
    second.write_bytes(path.read_bytes())
    assert other.absent(range(6)) == []
    read("other")


@pytest.mark.parametrize("tries", TRIES)
def test_an_image_cache_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture, tries: int) -> None:
    images = {f"{i}": torch.full((9, 9, 3), i + 1, dtype=torch.uint8) for i in range(5)}

    def read(shown: dict[str, Tensor] = images, identity: str = "this") -> None:
        cache = ImageCache(images, 9, 1, str(tmp_path), identity)
        for name, image in shown.items():
            assert torch.equal(cache.get(name, lambda image=image: image), image)

    read()
    assert "damaged" not in caplog.text
    (path,) = tmp_path.glob("*.bin")
    assert fuzz([path], tries, read) == {"refused": 0, "read": tries}
    caplog.clear()
    ImageCache(images, 9, 1, str(tmp_path), "other")
    (second,) = {*tmp_path.glob("*.bin")} - {path}
    second.write_bytes(path.read_bytes())
    read({name: image + 1 for name, image in images.items()}, "other")
    assert len([record for record in caplog.records if "is damaged; read anew" in record.message]) == 5


@pytest.mark.parametrize("tries", TRIES)
def test_a_support_file_is_right_or_refused(tmp_path: Path, checkpoint: Path, tries: int) -> None:
    source = Synthetic(size=80)
    segmenter = Segmenter.from_checkpoint(checkpoint).fit(source.image("val-00-0000"), source.mask("val-00-0000", [0]))
    segmenter.save_support(tmp_path / "support")
    saved = segmenter._codes

    def read() -> None:
        segmenter._codes = {}
        segmenter.load_support(tmp_path / "support")
        assert [*tensors(segmenter._codes)] == [*tensors(saved)]

    read()
    assert fuzz([tmp_path / "support"], tries, read)["refused"] > 0.9 * tries


def tensors(node: object) -> Iterator[str | bytes]:
    """Names and bytes of what nested mappings and tuples hold, by name."""
    if isinstance(node, Tensor):
        yield node.numpy().tobytes()
    elif isinstance(node, dict):
        for name, part in sorted(node.items()):
            yield name
            yield from tensors(part)
    elif isinstance(node, tuple | list):
        for part in node:
            yield from tensors(part)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with a result, counts and pictures."""
    folder = tmp_path_factory.mktemp("result")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mshnet-train", *TINY, "test.pictures=1", f"runs={folder}"])
        train.main()
    return folder


@pytest.mark.parametrize("tries", TRIES)
def test_a_result_is_right_refused_or_doubted(run_folder: Path, tries: int) -> None:
    (path,) = run_folder.rglob(results.FILE)
    expected = results.load(path)

    def read() -> None:
        collected = collect([run_folder])
        (result,) = collected.results
        assert result == expected or doubts(collected.tests), "another result, without a word"

    read()
    fuzz([path], tries, read)


@pytest.mark.parametrize("tries", TRIES)
def test_a_failure_is_read_or_refused(tmp_path: Path, tries: int) -> None:
    results.save_failure(tmp_path, ["fold=1", "seed=3"], "DataError: no file", tmp_path / "log")
    path = tmp_path / results.FAILURE
    fuzz([path], tries, lambda: collect([tmp_path]))
    for content in ("[" * 5000, '{"a":' * 5000, "3", "null", "[]", '{"overrides": 3}', json.dumps({"error": [[[]]] * 9})):
        path.write_text(content)
        with pytest.raises(UserError, match="does not describe a failed run"):
            collect([tmp_path])


@pytest.mark.parametrize("tries", TRIES)
def test_annotations(tmp_path: Path, tries: int) -> None:
    root = draw_coco(tmp_path / "coco", range(2))
    path = root / "annotations" / "instances_val2014.json"
    fuzz([path], tries, lambda: seen(open_index(path, 80, tmp_path / "cache")))
    small = root / "val2014" / "small.json"
    small.write_bytes(path.read_bytes())
    fuzz([small], tries, lambda: read_annotations(small))


@pytest.mark.parametrize("tries", TRIES)
def test_lists(tmp_path: Path, tries: int) -> None:
    text, table, pickled = tmp_path / "fold0.txt", tmp_path / "list.csv", tmp_path / "fold0.pkl"
    text.write_text("".join(f"2007_{i:06d}__{i % 20 + 1:02d}\n" for i in range(40)))
    table.write_text("image,mask,class,split\n" + "".join(f"a/{i}.png,b/{i}.png,c{i % 3},val\n" for i in range(40)))
    pickled.write_bytes(pickle.dumps({c: [f"val2014/COCO_val2014_{i:012d}.jpg" for i in range(c)] for c in range(40)}))
    fuzz([text], tries, lambda: read_text_lists([text], 20))
    fuzz([table], tries, lambda: read_manifest(table))
    fuzz([pickled], tries, lambda: read_pickle_list(pickled, 80))


@pytest.mark.parametrize("kind", ["png", "tif", "bmp"])
@pytest.mark.parametrize("tries", TRIES)
def test_masks(tmp_path: Path, kind: str, tries: int) -> None:
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    path = tmp_path / f"mask.{kind}"
    Image.fromarray((np.indices((40, 50)).sum(0) > 40).astype(np.uint8) * 255).save(path)

    def values() -> None:
        try:
            read_values(path, None)
        except ValueError as error:  # which ``take_inventory`` lists
            raise DataError(str(error)) from error

    fuzz([path], tries, lambda: read_mask(path))
    fuzz([path], tries, values, seed=1)


@pytest.mark.parametrize("tries", TRIES)
def test_recorded_pictures(run_folder: Path, tries: int) -> None:
    (path,) = run_folder.rglob("pictures_*.npz")
    (measured, *_) = [test for test in collect([run_folder]).tests if test.pictures == path]
    assert episode_pictures(measured, 1)
    assert fuzz([path], tries, lambda: episode_pictures(measured, 1)) == {"refused": tries, "read": 0}


def test_a_picture_replaced_by_another_of_the_same_size_and_time(pascal_root: Path, tmp_path: Path) -> None:
    source = Pascal5i(str(pascal_root), str(pascal_root / "splits"))
    source.check()
    before, areas = source.identity(), dict(source._areas)
    mask = pascal_root / "SegmentationClassAug" / "trn_01_0.png"
    stat, labels = mask.stat(), np.array(Image.open(mask))
    Image.fromarray(np.where(labels == 1, 2, labels).astype(np.uint8)).save(mask)
    content = mask.read_bytes()
    mask.write_bytes(content[: stat.st_size].ljust(stat.st_size, b"\0"))
    os.utime(mask, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (mask.stat().st_size, mask.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    again = Pascal5i(str(pascal_root), str(pascal_root / "splits"))
    again.check()
    assert again._areas["trn_01_0"] == {1: areas["trn_01_0"][0]} and again.identity() != before


def opened(folder: str) -> FeatureFile:
    """A cache of 40 images of 256 KB."""
    return FeatureFile(folder, ["this"], [f"{i}" for i in range(40)], [FeatureShape((1, 32, 32, 64), torch.float32)])


def build(folder: str) -> None:
    """Fill it, in a process of its own."""
    cache = opened(folder)
    with cache.lock:
        for i in cache.absent(range(40)):
            cache.put(i, (torch.full((1, 1, 64, 32, 32), float(i)),))


@pytest.mark.parametrize("moments", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_process_leaves_no_half_features(tmp_path: Path, moments: int) -> None:
    context, rng, kept = multiprocessing.get_context("forkserver"), random.Random(0), []
    context.set_forkserver_preload(["test_damage"])
    for _ in range(moments):
        process = context.Process(target=build, args=(str(tmp_path),))
        process.start()
        while not any(tmp_path.glob("*.lock")):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        process.join()
        cache = FeatureFile(
            str(tmp_path), ["this"], [f"{i}" for i in range(40)], [FeatureShape((1, 32, 32, 64), torch.float32)]
        )
        kept.append(40 - len(cache.absent(range(40))))
        (found,) = cache.get(range(40), lambda i: (torch.full((1, 1, 64, 32, 32), float(i)),))
        assert all((features == i).all() for i, features in enumerate(found))
        for path in tmp_path.iterdir():
            path.unlink()
    print("records there when killed:", kept)
