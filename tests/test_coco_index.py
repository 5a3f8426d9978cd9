"""COCO's annotations on disk: parsed once, shared by processes, and explained where they are malformed."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as rle_tools

from coco_tree import draw_coco
from mshnet_pl.data.io.rle import encode
from mshnet_pl.data.sources.coco20i import Coco20i
from mshnet_pl.data.sources.coco_index import CocoIndex, open_index
from mshnet_pl.errors import DataError


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))


def _index(root: Path, cache: Path) -> CocoIndex:
    return open_index(root / "annotations" / "instances_train2014.json", 80, cache)


def test_the_index_is_made_once_and_pickles_as_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = draw_coco(tmp_path / "coco")
    first = _index(root, tmp_path / "cache")
    [folder] = (tmp_path / "cache").iterdir()
    file = root / "annotations" / "instances_train2014.json"
    with monkeypatch.context() as patched:
        patched.setattr(json, "loads", lambda *_: pytest.fail("the JSON was parsed again"))
        second = _index(root, tmp_path / "cache")
    copied = pickle.loads(pickle.dumps(second))
    assert len(pickle.dumps(second)) < 500
    for image_id in first.image_ids():
        assert np.array_equal(first.mask(image_id, range(80)), copied.mask(image_id, range(80)))
    (folder / "counts.npy").write_bytes(b"")
    assert _index(root, tmp_path / "cache").large(1) == first.large(1)
    document = json.loads(file.read_text())
    document["annotations"] = document["annotations"][:1]
    file.write_text(json.dumps(document))
    assert len(_index(root, tmp_path / "cache").large(0)) <= 1


def test_an_index_that_cannot_be_kept_works_from_memory(tmp_path: Path) -> None:
    root = draw_coco(tmp_path / "coco")
    (tmp_path / "file").write_text("in the way")
    index = _index(root, tmp_path / "file")
    again = pickle.loads(pickle.dumps(index))
    kept = _index(root, tmp_path / "cache")
    for image_id in kept.image_ids():
        assert np.array_equal(again.mask(image_id, [0, 40]), kept.mask(image_id, [0, 40]))


MALFORMED = {
    "no annotations": (lambda d: d.pop("annotations"), r"not of COCO's form \(KeyError: 'annotations'\)"),
    "a list": (lambda d: d.update(images=[3]), "not of COCO's form"),
    "categories": (lambda d: d["categories"].pop(), "79 categories, but COCO-20i has 80"),
    "twice": (lambda d: d["images"].append(d["images"][0]), "1 image ids occur twice"),
    "file name": (lambda d: d["images"][0].update(file_name="x.jpg"), r"do not end in their id:\n  'x.jpg'"),
    "large id": (lambda d: d["images"][0].update(id=10**30, file_name=f"{10**30}.jpg"), "do not end in their id"),
    "unknown image": (lambda d: d["annotations"][0].update(image_id=10**9), "KeyError: 1000000000"),
    "unknown category": (lambda d: d["annotations"][0].update(category_id=12345), "KeyError: 12345"),
    "polygon": (lambda d: d["annotations"][0].update(segmentation=[[1, 2, 3, 4]]), r"annotation \d+ .*three points"),
    "text": (lambda d: d["annotations"][0].update(segmentation=[["a"] * 6]), r"annotation \d+ "),
    "runs": (
        lambda d: d["annotations"][0].update(segmentation={"size": [64, 96], "counts": [5, 6]}),
        "add up to 11 pixels, but the image has 6144",
    ),
    "negative run": (
        lambda d: d["annotations"][0].update(segmentation={"size": [64, 96], "counts": [-1, 6145]}),
        "a run length of -1; give whole numbers from 0",
    ),
    "size": (
        lambda d: d["annotations"][0].update(segmentation={"size": [96, 64], "counts": [6144]}),
        r"encoded at height and width \[96, 64\]",
    ),
    "encoding": (
        lambda d: d["annotations"][0].update(segmentation={"size": [64, 96], "counts": "oooo"}),
        "counts that are cut short",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_json_is_explained(tmp_path: Path, case: str) -> None:
    root = draw_coco(tmp_path / "coco", images=1)
    file = root / "annotations" / "instances_train2014.json"
    document = json.loads(file.read_text())
    document["annotations"].sort(key=lambda annotation: annotation["iscrowd"])
    spoil, message = MALFORMED[case]
    spoil(document)
    file.write_text(json.dumps(document))
    with pytest.raises(DataError, match=message) as error:
        _index(root, tmp_path / "cache")
    assert str(file) in str(error.value)
    assert not (tmp_path / "cache").exists()


def test_a_truncated_json_is_explained(tmp_path: Path) -> None:
    root = draw_coco(tmp_path / "coco", images=1)
    file = root / "annotations" / "instances_val2014.json"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"instances_val2014\.json is no valid JSON.*cut off"):
        Coco20i(str(root)).check()
    file.unlink()
    with pytest.raises(DataError, match=r"data\.root=.*no file .*instances_val2014\.json"):
        Coco20i(str(root))


def test_an_encoding_that_is_cut_short_is_refused() -> None:
    """Also where pycocotools would decode it, into memory that nothing has written to."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = (rng.random(rng.integers(2, 60, 2)) < rng.random()).astype(np.uint8, order="F")
        size, counts = [*mask.shape], rle_tools.encode(mask)["counts"].decode()
        assert np.array_equal(rle_tools.decode(encode({"size": size, "counts": counts}, *size)), mask)
        for length in range(len(counts)):
            with pytest.raises(ValueError, match=r"add up to|cut short|no compressed|a run length of -"):
                encode({"size": size, "counts": counts[:length]}, *size)


@pytest.mark.parametrize("size", [(2**31, 5), (100_000, 100_000), (0, 5)])
def test_sizes_that_no_memory_is_made_for(tmp_path: Path, size: tuple[int, int]) -> None:
    root = draw_coco(tmp_path / "coco", images=1)
    file = root / "annotations" / "instances_train2014.json"
    document = json.loads(file.read_text())
    document["images"][0] |= {"height": size[0], "width": size[1]}
    document["annotations"] = []
    file.write_text(json.dumps(document))
    with pytest.raises(DataError, match=rf"image {document['images'][0]['id']}: {size[1]} x {size[0]} pixels"):
        _index(root, tmp_path / "cache")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e9])
def test_points_that_are_no_place(tmp_path: Path, bad: float) -> None:
    root = draw_coco(tmp_path / "coco", images=1)
    file = root / "annotations" / "instances_train2014.json"
    document = json.loads(file.read_text())
    document["annotations"] = [a for a in document["annotations"] if not a["iscrowd"]]
    document["annotations"][0]["segmentation"] = [[5, 5, bad, 5, 9, 9]]
    file.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"annotation \d+ .*point 1"):
        _index(root, tmp_path / "cache")
