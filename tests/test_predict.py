"""``mshnet-predict`` on files drawn here: results, settings that a checkpoint brings, and what cannot work."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image, ImageOps

from conftest import Command, Done
from mshnet_pl import Segmenter
from mshnet_pl.inference.draw import mask_image
from mshnet_pl.inference.queries import find_queries
from mshnet_pl.utils.hashing import sha256
from predict_files import draw
from predict_files import own as own
from predict_files import predict as predict

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
    assert again.code == 0 and f"keeps files that are not of this prediction: {len(before) - 6}, such as" in again.err, (
        again.err
    )
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
        (
            ["support=none", "query=query", "out=out"],
            ["support=none", "no such file or folder; give"],
        ),
        (["support=query", "query=query", "out=out"], ["support=query", "images"]),
        (["support=empty", "query=query", "out=out"], ["support=empty", "no masked image"]),
        (
            ["support=query", "query=query", "out=out"],
            ["support=query", "no masked image in it; give a folder with images/"],
        ),
        (["support=query/a.jpg", "query=query", "out=out"], ["support=query/a.jpg: a picture; give a folder with images/"]),
        (["support=bare", "query=query", "out=out"], ["bare: no folder masks"]),
        (["support=lone", "query=query", "out=out"], ["lone", "0 has 1 images and 0 masks"]),
    ],
)
def test_what_cannot_work_is_one_message(
    own: Path, predict: Callable[..., Done], settings: list[str], parts: list[str]
) -> None:
    draw(own / "empty", 0, range(0))
    draw(own / "lone", 0, range(1))
    (own / "lone" / "masks" / "0.png").unlink()
    (own / "bare" / "images").mkdir(parents=True)
    before = sorted(own.rglob("*"))
    done = predict(*settings)
    assert done.code == 2 and done.err.count("error: ") == 1 and "Traceback" not in done.err
    for part in parts:
        assert part in done.err
    assert sorted(own.rglob("*")) == before


def test_folders_in_capitals_and_empty_classes(own: Path, predict: Callable[..., Done]) -> None:
    (own / "support" / "images").rename(own / "support" / "Images")
    (own / "support" / "masks").rename(own / "support" / "MASKS")
    for part in ("images", "masks"):
        (own / "classes" / "empty" / part).mkdir(parents=True)
    (own / "support").rename(own / "classes" / "part")
    done = predict("support=classes", "query=query", "out=out")
    assert done.code == 0, done.err
    assert "classes: 1 passed over, empty: no image and no mask in it" in done.err
    assert json.loads((own / "out" / "predictions.json").read_text())["classes"] == {"part": 1}


def test_an_empty_value_is_no_default(own: Path, predict: Callable[..., Done]) -> None:
    done = predict("support=support", "query=query", "out=out", "threshold=")
    assert done.code == 2 and "threshold= is empty; give a value, or leave threshold= out for 0.5" in done.err
    assert not (own / "out").exists()


def test_two_commands_do_not_write_into_one_folder(own: Path, predict: Callable[..., Done]) -> None:
    (own / "out").mkdir()
    with FileLock(own / "out" / ".lock"):
        done = predict("support=support", "query=query", "out=out")
        assert done.code == 2 and "out=out: another command writes into it" in done.err
    assert predict("support=support", "query=query", "out=out").code == 0
    assert not (own / "out" / ".lock").exists()


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


@pytest.mark.parametrize("end", ["avif", "gif", "png", "tif", "webp"])
def test_every_page_and_frame_is_a_query(tmp_path: Path, end: str) -> None:
    grays = [40, 120, 200]
    first, *frames = (Image.new("L", (16, 12), gray) for gray in grays)
    first.save(tmp_path / f"s.{end}", save_all=True, append_images=frames)
    queries = find_queries(str(tmp_path)).images
    assert [query.name for query in queries] == ["s_p0", "s_p1", "s_p2"]
    for query, gray in reversed([*zip(queries, grays, strict=True)]):
        assert query.bits() == 8 and np.abs(np.asarray(query.read()).astype(int) - gray).max() <= 2


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
