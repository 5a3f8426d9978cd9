"""Predictions as COCO and LabelMe JSON, read back by pycocotools and as supports; presence beside them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from conftest import Command
from mshnet_pl.inference.annotation_output import parts
from mshnet_pl.inference.presence import presence
from mshnet_pl.inference.supports import read_supports


def photo(*places: int) -> Image.Image:
    """Orange squares at these columns, on gray."""
    pixels = np.full((96, 128, 3), 90, np.uint8)
    for x in places:
        pixels[30:60, x : x + 30] = 240, 150, 10
    return Image.fromarray(pixels + np.random.default_rng(0).integers(0, 10, pixels.shape).astype(np.uint8))


@pytest.fixture
def predicted(tmp_path: Path, command: Command) -> Callable[..., tuple[Path, list[dict[str, Any]]]]:
    """Masks of two pictures by the default network, and the rows of ``predictions.json``."""
    for folder in ("s/images", "s/masks", "q"):
        (tmp_path / folder).mkdir(parents=True)
    photo(40).save(tmp_path / "s" / "images" / "a.png")
    mask = np.zeros((96, 128), np.uint8)
    mask[30:60, 40:70] = 255
    Image.fromarray(mask).save(tmp_path / "s" / "masks" / "a.png")
    photo(5, 90).save(tmp_path / "q" / "two.png")
    photo(50).save(tmp_path / "q" / "one.png")

    def run(*settings: str) -> tuple[Path, list[dict[str, Any]]]:
        done = command("mshnet-predict", "ckpt=training-free", "support=s", "query=q", "out=out", *settings)
        assert done.code == 0, done.err
        return tmp_path / "out", json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]

    return run


def drawn(out: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(out / f"{name}_mask.png")) > 0


def test_coco_is_read_by_pycocotools(predicted: Callable[..., Any]) -> None:
    out, rows = predicted("format=coco", "instances=true")
    coco = COCO(out / "coco.json")
    for image in coco.loadImgs(coco.getImgIds()):
        annotations = coco.loadAnns(coco.getAnnIds(image["id"]))
        name = Path(image["file_name"]).stem
        assert (out / image["file_name"]).samefile(out.parent / "q" / f"{name}.png")
        masks = [coco.annToMask(one) for one in annotations]
        assert np.array_equal(np.any(masks, axis=0), drawn(out, name))
        (row,) = (row for row in rows if row["mask"] == f"{name}_mask.png")
        assert [one["box"] for one in row["instances"]] == [one["bbox"] for one in annotations]
        for one, mask in zip(annotations, masks, strict=True):
            y, x = np.nonzero(mask)
            assert one["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1] and one["area"] == mask.sum()
            assert 0.5 < one["score"] <= 1 and one["segmentation"]["size"] == [96, 128]
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["object"]


def test_labelme_read_as_support_is_the_same_mask(predicted: Callable[..., Any]) -> None:
    out, _ = predicted("format=labelme")
    supports = read_supports(out / "labelme").classes["object"]
    assert len(supports) == 2
    for support in supports:
        assert np.array_equal(support.mask, drawn(out, support.file.stem))  # type: ignore[arg-type]


def test_presence_and_what_counts_as_found(predicted: Callable[..., Any]) -> None:
    _, rows = predicted("min_presence=1")
    for row in rows:
        assert row["mean_probability"]["object"] < row["presence"]["object"] <= 1 and row["found"] == {"object": False}


def test_presence_is_the_mean_of_the_likeliest_hundredth() -> None:
    margin = torch.randn(40, 50)
    likeliest = np.sort(1 / (1 + np.exp(-margin.double().numpy())).ravel())[-20:]
    assert presence(margin) == pytest.approx(likeliest.mean(), abs=1e-6)
    assert presence(torch.zeros(3, 3)) == 0.5


def test_parts_of_several_classes() -> None:
    labels = np.zeros((20, 30), np.uint8)
    labels[2:5, 3:9] = labels[10:12, 20:29] = 1
    labels[15:18, 1:4] = labels[18, 4] = 2  # touch at a corner
    probabilities = np.stack([np.full((20, 30), 0.6), np.full((20, 30), 0.9)]).astype(np.float32)
    found = parts(labels, ["cat", "dog"], probabilities, instances=True)
    assert [(one.class_name, one.box) for one in found] == [
        ("cat", [3, 2, 6, 3]), ("cat", [20, 10, 9, 2]), ("dog", [1, 15, 4, 4]),
    ]  # fmt: skip
    assert [one.score for one in found] == pytest.approx([0.6, 0.6, 0.9]) and found[2].mask.sum() == 10
    whole = parts(labels, ["cat", "dog"], probabilities, instances=False)
    assert [one.box for one in whole] == [[3, 2, 26, 10], [1, 15, 4, 4]] and whole[0].mask.sum() == 36
