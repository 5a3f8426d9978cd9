"""``mshnet-predict`` on files drawn here, and the readers of annotation tools."""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from conftest import Command, Done
from mshnet_pl import Segmenter
from mshnet_pl.data.io.annotations import read_annotations
from mshnet_pl.data.io.marks import INSIDE, OBJECT
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.errors import DataError
from mshnet_pl.inference.draw import mask_image
from mshnet_pl.inference.queries import find_queries
from mshnet_pl.utils.hashing import sha256

SOURCE = Synthetic(size=70)


def draw(folder: Path, class_id: int, numbers: range, mask_value: int = 255) -> None:
    """``images/N.jpg`` and ``masks/N.png`` of a class."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in numbers:
        name = f"val-{class_id:02d}-{number:04d}"
        SOURCE.image(name).save(folder / "images" / f"{number}.jpg", quality=95)
        Image.fromarray(SOURCE.mask(name, [class_id]) * mask_value).save(folder / "masks" / f"{number}.png")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """``support``, and ``query`` with an image of every kind that there is."""
    draw(tmp_path / "support", 0, range(2))
    query = tmp_path / "query"
    query.mkdir()
    image = SOURCE.image("val-00-0005")
    image.save(query / "a.png")
    image.crop((0, 0, 60, 40)).save(query / "a.jpg", quality=95)
    image.convert("L").save(query / "gray.png")
    image.quantize(64).save(query / "palette.png")
    exif = image.getexif()
    exif[0x0112] = 6
    image.crop((0, 0, 70, 50)).save(query / "turned.jpg", exif=exif, quality=95)
    image.convert("RGBA").save(query / "alpha.webp", lossless=True)
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(query / "deep.png")
    pages = [SOURCE.image(f"val-00-{i:04d}").crop((0, 0, 70 - i, 70)) for i in range(3)]
    pages[0].save(query / "stack.tif", save_all=True, append_images=pages[1:])
    (query / "notes.txt").write_text("no image")
    return tmp_path


@pytest.fixture
def predict(command: Command, checkpoint: Path) -> Callable[..., Done]:
    return lambda *settings: command("mshnet-predict", f"ckpt={checkpoint}", *settings)


NAMES = ["a", "a.png", "alpha", "deep", "gray", "palette", "stack_p0", "stack_p1", "stack_p2", "turned"]


def test_every_query_gets_its_mask_overlay_and_numbers(own: Path, predict: Callable[..., Done], checkpoint: Path) -> None:
    (own / "query" / "zz.png").write_bytes((own / "query" / "a.png").read_bytes()[:200])
    done = predict("support=support", "query=query", "out=results/here", "threshold=0.4", "batch_size=3")
    assert done.code == 1 and "1 queries could not be read" in done.err and "query/zz.png" in done.err
    out = own / "results" / "here"
    written = {path.name for path in out.iterdir()}
    assert written == {"contact_sheet.png", "predictions.json"} | {
        f"{n}_{what}.png" for n in NAMES for what in ("mask", "overlay")
    }
    record = json.loads((out / "predictions.json").read_text())
    assert record["classes"] == {"object": 1} and record["checkpoint_sha256"] == sha256(checkpoint)
    assert record["settings"]["threshold"] == 0.4 and [len(k) for k in record["supports"].values()] == [2]
    assert [row["file"] for row in record["unreadable"]] == ["query/zz.png"]
    segmenter = Segmenter.from_checkpoint(checkpoint)
    segmenter.fit(sorted(own.glob("support/images/*")), sorted(own.glob("support/masks/*")))
    assert len(record["predictions"]) == len(NAMES)
    for row, name in zip(record["predictions"], NAMES, strict=True):
        with Image.open(own / row["file"]) as image:
            image.seek(row["page"] or 0)
            alone = ImageOps.exif_transpose(image).convert("RGB")
        if name == "deep":
            alone = Image.open(own / "query" / "gray.png").convert("RGB")
        size = alone.size
        probability = segmenter.predict_proba(alone)
        mask, overlay = (np.asarray(Image.open(out / row[what])) for what in ("mask", "overlay"))
        assert row["mask"] == f"{name}_mask.png" and (row["width"], row["height"]) == size
        unclear = np.abs(probability - 0.4) < 1e-4
        assert mask.shape == size[::-1] and set(np.unique(mask)) == {0, 255} and overlay.shape == (*mask.shape, 3)
        assert np.array_equal((mask == 255) | unclear, (probability > 0.4) | unclear)
        assert row["area"] == {"object": int((mask == 255).sum())}
        assert row["mean_probability"]["object"] == pytest.approx(probability.mean(), abs=1e-4)
        assert row["mean_probability_inside"]["object"] == pytest.approx(probability[mask == 255].mean(), abs=1e-4)
        untouched = (overlay == np.asarray(alone)).all(2)
        assert untouched[mask == 0].all() and not untouched[mask == 255].any()
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width > 1000 and sheet.height > 500

    before = {path: path.read_bytes() for path in out.iterdir()}
    again = predict("support=support", "query=query/a.png", "out=results/here")
    assert again.code == 2 and "overwrite=true" in again.err and "Traceback" not in again.err
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    again = predict("support=support", "query=query/a.*", "out=results/here", "overwrite=true")
    assert again.code == 0, again.err
    assert (out / "a_mask.png").read_bytes() != before[out / "a_mask.png"]
    assert (out / "gray_mask.png").read_bytes() == before[out / "gray_mask.png"]


def test_several_classes_and_tiles(own: Path, predict: Callable[..., Done], checkpoint: Path) -> None:
    for class_id, name in enumerate(("cat", "dog", "emu")):
        draw(own / "classes" / name, class_id, range(1 + class_id), mask_value=7)
    settings = "tile=48", "value=7", "threshold=0.2", "guided=0.05"
    done = predict("support=classes", "query=query/stack.tif", "out=out", *settings)
    assert done.code == 0, done.err
    record = json.loads((own / "out" / "predictions.json").read_text())
    assert record["classes"] == {"cat": 1, "dog": 2, "emu": 3}
    segmenter = Segmenter.from_checkpoint(checkpoint, guided=0.05)
    for name in record["classes"]:
        folder = own / "classes" / name
        segmenter.fit(name, sorted(folder.glob("images/*")), sorted(folder.glob("masks/*")))
    with Image.open(own / "query" / "stack.tif") as stack:
        stack.seek(1)
        expected = segmenter.predict(stack.convert("RGB"), 0.2, tile=48)
    with Image.open(own / "out" / "stack_p1_mask.png") as mask:
        assert mask.mode == "P" and np.array_equal(np.asarray(mask), expected)
        colours = np.asarray(mask.convert("RGB")).reshape(-1, 3)
        assert len(np.unique(colours, axis=0)) == len(np.unique(expected)) > 2
    (row,) = [row for row in record["predictions"] if row["page"] == 1]
    assert row["area"] == {name: int((expected == number).sum()) for name, number in record["classes"].items()}


def test_a_checkpoint_brings_its_filter(own: Path, command: Command, checkpoint: Path) -> None:
    stored = torch.load(checkpoint, weights_only=True)
    stored["hyper_parameters"]["config"]["eval"]["guided"] = 0.1
    torch.save(stored, own / "filtered.ckpt")
    plain = Segmenter.from_checkpoint(checkpoint)
    images, masks = sorted(own.glob("support/images/*")), sorted(own.glob("support/masks/*"))
    for out, settings, guided in (("own", [], 0.1), ("without", ["guided=0"], 0.0), ("other", ["guided=0.05"], 0.05)):
        done = command(
            "mshnet-predict", "ckpt=filtered.ckpt", "support=support", "query=query/a.png", f"out={out}", "threshold=0.4",
            *settings,
        )  # fmt: skip
        assert done.code == 0, done.err
        segmenter = Segmenter(plain.method, plain.image_size, guided=guided).fit(images, masks)
        expected = segmenter.predict(own / "query" / "a.png", 0.4)
        with Image.open(own / out / "a_mask.png") as mask:
            assert np.array_equal(np.asarray(mask) > 0, expected)
        assert json.loads((own / out / "predictions.json").read_text())["settings"]["guided"] == guided
    assert len({(own / out / "a_mask.png").read_bytes() for out in ("own", "without", "other")}) == 3


def test_a_checkpoint_brings_its_views(own: Path, command: Command, checkpoint: Path) -> None:
    stored = torch.load(checkpoint, weights_only=True)
    stored["hyper_parameters"]["config"]["eval"] |= {"flip": True, "scales": [0.75, 1.0], "fusion": "mean", "zooms": [1.5]}
    torch.save(stored, own / "views.ckpt")
    plain = Segmenter.from_checkpoint(checkpoint)
    images, masks = sorted(own.glob("support/images/*")), sorted(own.glob("support/masks/*"))
    views = {"flip": True, "scales": [0.75, 1.0], "fusion": "mean", "guided": 0.0, "zooms": [1.5]}
    changes = {"flip": False, "scales": [1.5, 1.0], "fusion": "vote", "guided": 0.0, "zooms": []}
    for out, given, settings in (
        ("own", [], views),
        ("other", ["flip=false", "scales=[1.5,1]", "fusion=vote", "zooms=[]"], changes),
        ("plain", ["flip=false", "scales=1", "fusion=network", "zooms=[]"], plain.settings),
    ):
        done = command("mshnet-predict", "ckpt=views.ckpt", "support=support", "query=query/a.png", f"out={out}", *given)
        assert done.code == 0, done.err
        segmenter = Segmenter(plain.method, plain.image_size, **settings).fit(images, masks)
        (row,) = json.loads((own / out / "predictions.json").read_text())["predictions"]
        (wins,) = segmenter.margins(own / "query" / "a.png")
        assert row["mean_probability"] == {"object": pytest.approx(float(wins.sigmoid().double().mean()), rel=1e-6)}
        recorded = json.loads((own / out / "predictions.json").read_text())["settings"]
        assert {key: recorded[key] for key in settings} == settings
    for wrong, way_out in (("scales=big", "number"), ("scales=0.1", "0.50"), ("fusion=sum", "vote"), ("flip=yes", "true")):
        done = command("mshnet-predict", "ckpt=views.ckpt", "support=support", "query=query/a.png", "out=none", wrong)
        assert done.code == 2 and wrong.partition("=")[0] in done.err and way_out in done.err


def labelme(folder: Path, name: str, *shapes: tuple[str, str, list[Any]], mask: str | None = None) -> Path:
    image = Image.new("RGB", (50, 40), "gray")
    image.save(folder / f"{name}.png")
    listed = [{"label": label, "shape_type": kind, "points": points, "mask": mask} for label, kind, points in shapes]
    document = {"shapes": listed, "imagePath": f"..\\{folder.name}\\{name}.png", "imageWidth": 50, "imageHeight": 40}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document))
    return path


def test_labelme_shapes(tmp_path: Path) -> None:
    y, x = np.mgrid[:40, :50]
    stamp = np.array([[1, 0, 1], [0, 1, 1]], bool)
    buffer = io.BytesIO()
    Image.fromarray(stamp).save(buffer, "PNG")
    shapes: list[tuple[str, str, list[Any]]] = [
        ("box", "rectangle", [[30, 20], [10.0, 5.0]]),
        ("box", "polygon", [[40, 30], [45, 30], [45, 35], [40, 35]]),
        ("disk", "circle", [[25, 20], [25, 29]]),
        ("stamp", "mask", [[7, 3], [9, 4]]),
    ]
    path = labelme(tmp_path, "a", *shapes, mask=base64.b64encode(buffer.getvalue()).decode())
    outlines = read_annotations(path)
    found = {name: mask for name, image, mask, file in outlines.found if file.samefile(tmp_path / "a.png") and image == file}
    assert not outlines.problems
    told = np.zeros((40, 50))
    told[5:21, 10:31], told[30:36, 40:46] = INSIDE, OBJECT
    assert np.array_equal(found["box"].told(), told)
    distance = np.hypot(x - 25, y - 20)
    assert found["disk"][distance <= 8.4].all() and not found["disk"][distance >= 9.6].any()
    stamped = np.zeros((40, 50), bool)
    stamped[3:5, 7:10] = stamp
    assert found.keys() == {"box", "disk", "stamp"} and np.array_equal(found["stamp"], stamped)


def coco(folder: Path, annotations: list[dict[str, Any]], file: str = "instances.json") -> Path:
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (50, 40), "gray").save(folder / "images" / "a.png")
    images = [{"id": 7, "file_name": "a.png", "width": 50, "height": 40}]
    categories = [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}]
    rows = [{"id": i, "image_id": 7, **annotation} for i, annotation in enumerate(annotations)]
    (folder / file).write_text(json.dumps({"images": images, "categories": categories, "annotations": rows}))
    return folder / file


def test_coco_polygons_and_run_lengths(tmp_path: Path) -> None:
    y, x = np.mgrid[:40, :50]
    corner, square = (x < 9) & (y < 5), (x >= 20) & (x < 30) & (y >= 10) & (y < 25)
    flat = corner.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=False))
    runs = np.diff([0, *changes, flat.size]).tolist()
    everything = {"size": [40, 50], "counts": [0, 2000]}
    annotations = [
        {"category_id": 9, "segmentation": {"size": [40, 50], "counts": runs}},
        {"category_id": 9, "segmentation": [[20, 10, 30, 10, 30, 25, 20, 25]]},
        {"category_id": 3, "segmentation": everything, "iscrowd": 1},
        {"category_id": 3, "segmentation": [[20, 10, 30, 10, 30, 25, 20, 25]]},
    ]
    path = coco(tmp_path / "coco", annotations)
    (cat, _, cat_mask, _), (dog, image, dog_mask, _) = read_annotations(path).found
    assert (cat, dog) == ("cat", "dog") and image == tmp_path / "coco" / "images" / "a.png"
    assert np.array_equal(cat_mask, square) and np.array_equal(dog_mask, square | corner)


def test_annotations_are_supports(own: Path, predict: Callable[..., Done]) -> None:
    (own / "labelme").mkdir()
    labelme(own / "labelme", "a", ("cat", "rectangle", [[3, 3], [20, 20]]))
    labelme(own / "labelme", "b", ("dog", "rectangle", [[3, 3], [20, 20]]), ("cat", "rectangle", [[30, 3], [40, 20]]))
    path = coco(own / "coco", [{"category_id": 3, "segmentation": [[3, 3, 20, 3, 20, 20]]}])
    for number, (support, classes) in enumerate(
        [("labelme", {"cat": 1, "dog": 2}), ("coco", {"cat": 1}), (path, {"cat": 1})]
    ):
        done = predict(f"support={support}", "query=query/a.png", f"out=out{number}")
        assert done.code == 0, done.err
        assert json.loads((own / f"out{number}" / "predictions.json").read_text())["classes"] == classes
    done = predict("support=coco", "query=query", "out=out9", "value=3")
    assert done.code == 2 and "value=3 is for masks" in done.err and not (own / "out9").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shapes": [{"label": "cat", "points": [[1, 1]], "shape_type": "line"}]}, r"shape 0 \(cat\): a line of 1 points"),
        ({"shapes": [{"label": "cat", "points": [[1, 1], [2, "x"]]}]}, r"shape 0 \(cat\)"),
        ({"imagePath": "gone.png"}, "no image gone.png"),
        ({"imageWidth": 60_000}, "outlined at 60000 x 40 pixels, but .* has 50 x 40"),
        ({"shapes": [{"label": "cat", "points": [[1, 1], [1e8, 2], [3, 4]]}]}, "lies far outside of the image of 50 x 40"),
        ({"shapes": [{"label": "cat", "points": [[1, 1], [2, float("inf")], [3, 4]]}]}, r"point 1 is \(2.0, inf\)"),
    ],
)
def test_bad_labelme_is_explained(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = labelme(tmp_path, "a", ("cat", "rectangle", [[3, 3], [20, 20]]))
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=rf"a\.json: (.|\n)*{message}"):
        read_annotations(path)


def test_bad_coco_is_explained(tmp_path: Path) -> None:
    for number, (annotation, message) in enumerate(
        [
            ({"category_id": 3, "segmentation": [[1, 2]]}, r"annotation 0 \(image 7, category 3\): a polygon"),
            ({"category_id": 4, "segmentation": [[1, 2, 9, 2, 9, 9]]}, "category 4.*no such image or category"),
            ({"category_id": 3, "image_id": 8, "segmentation": [[1, 2, 9, 2, 9, 9]]}, r"annotation 0 \(image 8"),
        ]
    ):
        with pytest.raises(DataError, match=message):
            read_annotations(coco(tmp_path / f"{number}", [annotation]))
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DataError, match="neither LabelMe's shapes nor COCO's images and annotations"):
        read_annotations(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        (["query=query", "out=out"], ["support is not set", "mshnet-predict --help"]),
        (["support=support", "query=query", "out=out", "treshold=1"], ["treshold=1", "did you mean threshold"]),
        (["support=support", "query=query", "out=out", "out=other"], ["out=other", "once"]),
        (["support=support", "query=query", "out=out", "threshold=high"], ["threshold=high", "number"]),
        (["support=support", "query=query", "out=out", "threshold=1.5"], ["threshold=1.5", "between 0 and 1"]),
        (["support=support", "query=query", "out=out", "guided=2"], ["guided=2.0", "0.008 to 0.5"]),
        (["support=support", "query=query", "out=out", "tile=5"], ["tile=5", "32"]),
        (["support=support", "query=query", "out=out", "batch_size=2.5"], ["batch_size=2.5", "whole number"]),
        (["support=support", "query=query", "out=out", "batch_size=0"], ["batch_size=0", "at least 1"]),
        (["support=support", "query=query", "out=out", "device=tpu9"], ["device=tpu9"]),
        (["support=support", "query=query", "out=out", "overwrite=yes"], ["overwrite=yes", "true or false"]),
        (["support=support", "query=query", "out=out", "value=3"], ["support/masks/0.png", "no pixel of value 3"]),
        (["support=support", "query=none/*.png", "out=out"], ["query=none/*.png", "no image"]),
        (["support=support", "query=query", "out=query"], ["out=query", "holds queries"]),
        (["support=none", "query=query", "out=out"], ["support=none", "no such folder"]),
        (["support=query", "query=query", "out=out"], ["support=query", "images"]),
        (["support=empty", "query=query", "out=out"], ["support=empty", "no masked image"]),
        (["support=lone", "query=query", "out=out"], ["lone", "0 has 1 images and 0 masks"]),
    ],
)
def test_what_cannot_work_is_one_message(
    own: Path, predict: Callable[..., Done], settings: list[str], parts: list[str]
) -> None:
    draw(own / "empty", 0, range(0))
    draw(own / "lone", 0, range(1))
    (own / "lone" / "masks" / "0.png").unlink()
    before = sorted(own.rglob("*"))
    done = predict(*settings)
    assert done.code == 2 and done.err.count("error: ") == 1 and "Traceback" not in done.err
    for part in parts:
        assert part in done.err
    assert sorted(own.rglob("*")) == before


def test_names_never_collide(tmp_path: Path) -> None:
    names = ["s_p1.png", "s.tif", "A.png", "a.png", "a.jpg", "a.jpg.png", "x/a.jpg"]
    (tmp_path / "x").mkdir()
    frames = [Image.new("L", (4, 4), 50 * i) for i in range(3)]
    for name in names:
        more = {"save_all": True, "append_images": frames[1:]} if name.endswith("tif") else {}
        frames[0].save(tmp_path / name, **more)
    queries = find_queries(f"{tmp_path}/**/*.*").images
    assert len(queries) == len(names) + 2
    assert len({query.name.casefold() for query in queries}) == len(queries)
    assert {query.name for query in queries if query.path.name == "s.tif"} == {"s_p0", "s_p1", "s_p2"}


@pytest.mark.parametrize(
    ("support", "settings"),
    [
        ("support", ["out=support/images"]),
        ("support", ["out=support/masks", "overwrite=true"]),
        ("support", ["out=support/masks", "overwrite=true", "format=parquet"]),
        ("support", ["negative=ann", "out=ann/images", "overwrite=true"]),
        ("ann/labelme", ["out=ann", "overwrite=true", "format=labelme"]),
        ("ann", ["out=ann", "overwrite=true", "format=coco"]),
        ("ann", ["out=ann"]),
        ("ann/coco.json", ["out=link", "overwrite=true", "format=coco"]),
        ("ann/_masks/part-00000", ["out=ann", "overwrite=true", "format=parquet"]),
    ],
)
def test_supports_stay_as_they_are(own: Path, predict: Callable[..., Done], support: str, settings: list[str]) -> None:
    draw(own / "ann" / "_masks" / "part-00000", 0, range(1))
    coco(own / "ann", [{"category_id": 3, "segmentation": [[5, 5, 40, 5, 40, 30]]}], "coco.json")
    (own / "ann" / "labelme").mkdir()
    labelme(own / "ann" / "labelme", "a", ("cat", "polygon", [[5, 5], [40, 5], [40, 30]]))
    (own / "link").symlink_to("ann")
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    done = predict(f"support={support}", "query=query", *settings)
    assert done.code == 2 and done.err.count("error: ") == 1, done.err
    assert re.search("error: out=.*in the place of supports, or beside them; give another folder", done.err), done.err
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before
    assert predict(f"support={support}", "query=query/a.png", "out=ann/out").code == 0


@pytest.mark.parametrize("format_", ["png", "parquet"])
def test_a_result_that_cannot_be_made_is_its_querys_error(
    own: Path, predict: Callable[..., Done], format_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small_ones_fail(labels: np.ndarray, way: int) -> Image.Image:
        if labels.shape == (40, 60):
            raise RuntimeError("the encoder gave up")
        return mask_image(labels, way)

    for module in ("predict", "shard_worker"):
        monkeypatch.setattr(f"mshnet_pl.runs.{module}.mask_image", small_ones_fail)
    done = predict("support=support", "query=query", "out=out", f"format={format_}", f"masks={format_ == 'parquet'}")
    assert done.code == 1 and "1 queries could not be read" in done.err and "Traceback" not in done.err, done.err
    assert len([*(own / "out").rglob("*_mask.png")]) == len(NAMES) - 1
    if format_ == "png":
        record = json.loads((own / "out" / "predictions.json").read_text())
        (failed,) = record["unreadable"]
        assert failed["error"] == "query/a.jpg: its result cannot be made: the encoder gave up"
        assert [row["file"] for row in record["predictions"]].count("query/stack.tif") == 3


@pytest.mark.parametrize("place", ["n" * 300, "loop", "file/x", "~nobody_of_that_name/x"])
@pytest.mark.parametrize("key", ["support", "query", "out", "ckpt", "negative", "data.root"])
def test_places_that_are_none(own: Path, command: Command, checkpoint: Path, key: str, place: str) -> None:
    (own / "loop").symlink_to("loop")
    (own / "file").write_text("no folder")
    before = sorted(own.rglob("*"))
    settings = {"ckpt": checkpoint, "support": "support", "query": "query", "out": "out", key: place}
    if key == "data.root":
        done = command("mshnet-prepare", "data=coco20i", f"{key}={place}")
    else:
        done = command("mshnet-predict", *(f"{name}={value}" for name, value in settings.items()))
    assert done.code == 2 and done.err.count("error: ") == 1 and "Traceback" not in done.err, done.err
    assert place in done.err and re.search("give |make |mended|no such", done.err), done.err
    assert sorted(own.rglob("*")) == before


def test_a_file_is_no_folder_of_results(own: Path, predict: Callable[..., Done]) -> None:
    done = predict("support=none", "query=query", "out=query/a.png/results")
    assert done.code == 2 and "out=query/a.png/results cannot be written: Not a directory; give another" in done.err
