"""Predictions as COCO and LabelMe JSON, read back by pycocotools and as supports; presence beside them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle_tools
from pycocotools.coco import COCO

from conftest import Command
from mshnet_pl.data.io.georeference import Tags
from mshnet_pl.inference.annotation_output import parts
from mshnet_pl.inference.presence import presence
from mshnet_pl.inference.queries import Query
from mshnet_pl.inference.supports import read_supports
from mshnet_pl.runs.prediction import save_mask


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
        shown = np.any(masks, axis=0)
        orange = np.asarray(Image.open(out / image["file_name"]))[..., 0] > 200
        assert np.array_equal(shown, drawn(out, name)) and (shown & orange).sum() > 0.7 * (shown | orange).sum()
        (row,) = (row for row in rows if row["mask"] == f"{name}_mask.png")
        assert [one["box"] for one in row["instances"]] == [one["bbox"] for one in annotations]
        for one, mask in zip(annotations, masks, strict=True):
            y, x = np.nonzero(mask)
            assert one["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1] and one["area"] == mask.sum()
            assert 0.5 < one["score"] <= 1 and one["segmentation"]["size"] == [96, 128]
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["object"]


@pytest.mark.parametrize("instances", [False, True])
def test_labelme_read_as_support_is_the_same_mask(predicted: Callable[..., Any], command: Command, instances: bool) -> None:
    out, rows = predicted("format=labelme", f"instances={instances}".lower())
    shapes = [len(json.loads(path.read_text())["shapes"]) for path in sorted((out / "labelme").iterdir())]
    assert shapes == ([len(row["instances"]) for row in rows] if instances else [1, 1]) and instances == (sum(shapes) > 2)
    supports = read_supports(out / "labelme").classes["object"]
    for support in supports:
        assert np.array_equal(support.mask, drawn(out, support.file.stem))  # type: ignore[arg-type]
    done = command("mshnet-predict", "support=out/labelme", "query=s/images", "out=again")
    assert done.code == 0, done.err
    used = json.loads((out.parent / "again" / "predictions.json").read_text())["supports"]["object"]
    assert [one["share"] for one in used] == [drawn(out, name).mean() for name in ("one", "two")]


@pytest.mark.parametrize("form", ["coco", "labelme"])
def test_pages_are_pictures_of_their_own(predicted: Callable[..., Any], tmp_path: Path, form: str) -> None:
    """A label tool opens the first page of a file alone."""
    pages = [photo(5, 90), photo(50)]
    pages[0].save(tmp_path / "q" / "stack.tif", save_all=True, append_images=pages[1:])
    out, _ = predicted(f"format={form}")
    assert len([*(out / "pages").iterdir()]) == 2
    for number, page in enumerate(pages):
        assert np.array_equal(np.asarray(Image.open(out / "pages" / f"stack_p{number}.png")), np.asarray(page))
    if form == "coco":
        named = {image["file_name"] for image in COCO(out / "coco.json").dataset["images"]}
        assert named == {"../q/one.png", "../q/two.png", "pages/stack_p0.png", "pages/stack_p1.png"}
    else:
        for support in read_supports(out / "labelme").classes["object"]:
            assert np.array_equal(support.mask, drawn(out, support.file.stem))  # type: ignore[arg-type]


def geotiff(path: Path) -> None:
    """As GDAL writes it: UTM zone 32 North, pixels of 10 m."""
    keys = {1024: 1, 1025: 1, 3072: 32632, 3076: 9001}  # projected, pixels are areas, EPSG's numbers of system and unit
    tags = Tags()
    for tag, kind, values in (
        (33550, 12, (10.0, 10.0, 0.0)),
        (33922, 12, (0.0, 0.0, 0.0, 399960.5, 5300040.25, 0.0)),
        (34735, 3, (1, 1, 0, len(keys), *(number for key, value in keys.items() for number in (key, 0, 1, value)))),
    ):
        tags.tagtype[tag], tags[tag] = kind, values
    photo(40).save(path, tiffinfo=tags)


@pytest.mark.usefixtures("predicted")
def test_masks_of_geotiffs_lie_where_their_pictures_lie(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "q").iterdir():
        path.unlink()
    geotiff(tmp_path / "q" / "field.tif")
    photo(20).save(tmp_path / "q" / "plain.tif")
    settings = (f"ckpt={checkpoint}", "support=s", "query=q", "device=cpu")
    assert command("mshnet-predict", *settings, "out=out").code == 0
    assert command("mshnet-predict", *settings, "out=parts", "format=parquet", "masks=true").code == 0
    wanted = {"field_mask.tif", "plain_mask.png"}
    for folder in (tmp_path / "out", tmp_path / "parts" / "_masks" / "part-00000"):
        assert {path.name for path in folder.glob("*_mask.*")} == wanted
        with Image.open(folder / "field_mask.tif") as mask, Image.open(tmp_path / "q" / "field.tif") as picture:
            assert mask.size == picture.size and {*np.unique(mask)} <= {0, 255}
            kept, given = mask.tag_v2, picture.tag_v2  # type: ignore[attr-defined]
            assert all(kept[tag] == given[tag] for tag in (33550, 33922, 34735))


@pytest.mark.parametrize(
    ("tag", "kind", "values"),
    [
        (33550, 5, (10.0, 10.0, 0.0)), (33550, 10, (10.0, 10.0, 0.0)), (33550, 11, (10.0, 10.0, 0.0)),
        (33550, 12, (10.0, float("nan"), 0.0)), (33922, 3, (0, 0, 0, 5, 5, 0)), (34735, 4, (1, 1, 0, 1, 1024, 0, 1, 1)),
        (34735, 13, (1, 1, 0, 1, 1024, 0, 1, 1)), (34737, 7, b"WGS 84|"),
    ],
)  # fmt: skip
def test_tags_that_are_not_as_the_standard_has_them(tmp_path: Path, tag: int, kind: int, values: Any) -> None:  # noqa: ANN401
    """With some of them libtiff would end the process."""
    geotiff(tmp_path / "good.tif")
    with Image.open(tmp_path / "good.tif") as picture:
        given: Tags = picture.tag_v2  # type: ignore[attr-defined]
        tags = Tags()
        for number in (33550, 33922, 34735):
            tags.tagtype[number], tags[number] = given.tagtype[number], given[number]
    tags.tagtype[tag], tags[tag] = kind, values
    photo(40).save(tmp_path / "bad.tif", tiffinfo=tags)
    good, bad = (Query(tmp_path / f"{name}.tif", None, name) for name in ("good", "bad"))
    assert good.mask_name == "good_mask.tif" and bad.mask_name == "bad_mask.png"
    save_mask(Image.new("L", (128, 96)), bad, tmp_path / bad.mask_name)


@pytest.mark.filterwarnings("ignore")  # rasterio's own
def test_rasterio_reads_the_same_place(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    for number, (system, place) in enumerate(
        (("EPSG:32632", (10, 0, 399960.5, 0, -10, 5300040.25)), ("+proj=laea +lat_0=52 +lon_0=10", (3, 1, 10, -1, -4, 20)))
    ):
        path, out = tmp_path / f"{number}.tif", tmp_path / f"{number}_mask.tif"
        layout = {"width": 128, "height": 96, "count": 3, "dtype": "uint8", "compress": "lzw", "tiled": True}
        with rasterio.open(path, "w", crs=system, transform=rasterio.Affine(*place), **layout) as file:
            file.write(np.asarray(photo(40)).transpose(2, 0, 1))
        save_mask(Image.fromarray(np.eye(96, 128, dtype=np.uint8) * 255), Query(path, None, "field"), out)
        with rasterio.open(path) as picture, rasterio.open(out) as mask:
            assert (mask.crs, mask.transform) == (picture.crs, picture.transform) and mask.crs
            assert np.array_equal(mask.read(1) > 0, np.eye(96, 128) > 0)


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


@pytest.mark.parametrize("instances", [False, True])
def test_run_lengths_are_those_of_the_whole_mask(instances: bool) -> None:
    rng = np.random.default_rng(0)
    for share in (0.05, 0.3, 0.7, 0.95, 1):
        for height, width in rng.integers(1, 12, (40, 2)).tolist():
            labels = (rng.random((height, width)) < share).astype(np.uint8)
            found = np.zeros_like(labels)
            for part in parts(labels, ["cat"], rng.random((1, height, width), np.float32), instances):
                whole = np.zeros_like(labels, order="F")
                whole[part.upper : part.upper + part.box[3], part.left : part.left + part.box[2]] = part.mask
                assert part.counts(width, height) == rle_tools.encode(whole)["counts"].decode()
                found += whole
            assert np.array_equal(found, labels)
