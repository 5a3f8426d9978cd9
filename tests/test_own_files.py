"""``mshnet-predict`` on folders as people have them: each test draws one situation."""

import base64
import io
import json
import os
import re
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from PIL.TiffImagePlugin import AppendingTiffWriter

from conftest import Command, Done
from mshnet_pl import Segmenter
from mshnet_pl.data.io.annotations import read_annotations
from mshnet_pl.data.io.images import MAX_PIXELS, read_image
from mshnet_pl.data.sources.folder import Folder
from mshnet_pl.data.sources.pascal5i import Pascal5i
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.inference.queries import find_queries, named
from mshnet_pl.options import Subset

SIZE = (64, 48)
CORNERS = [(10, 6), (50, 6), (50, 40), (10, 40)]


def picture(shift: int = 0) -> Image.Image:
    """A gray rectangle on a ramp."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    image = Image.fromarray(np.stack([2 * x + shift, 3 * y, x + y], axis=2).astype(np.uint8))
    ImageDraw.Draw(image).polygon(CORNERS, fill=(200, 40, 90))
    return image


def mask() -> Image.Image:
    image = Image.new("L", SIZE)
    ImageDraw.Draw(image).polygon(CORNERS, fill=255)
    return image


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """``support`` with an image and its mask, and ``query`` with an image."""
    for part in ("support/images", "support/masks", "query"):
        (tmp_path / part).mkdir(parents=True)
    picture().save(tmp_path / "support" / "images" / "a.png")
    mask().save(tmp_path / "support" / "masks" / "a.png")
    picture(9).save(tmp_path / "query" / "q.png")
    return tmp_path


@pytest.fixture
def predict(own: Path, command: Command, checkpoint: Path) -> Callable[..., Done]:
    """Runs in ``own`` with its ``support`` and ``query``, unless others are given, into ``out``."""

    def run(*settings: str) -> Done:
        defaults = {"support": "support", "query": "query", "out": "out"}
        given = {setting.partition("=")[0] for setting in settings}
        return command(
            "mshnet-predict", f"ckpt={checkpoint}", *settings, *(f"{k}={v}" for k, v in defaults.items() if k not in given)
        )

    return run


def record(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "predictions.json").read_text())
    return content


def labelme(path: Path, shapes: Sequence[tuple[str, Any]], image_path: str, **more: Any) -> None:  # noqa: ANN401 - JSON
    listed = [{"label": "part", "shape_type": kind, "points": points} for kind, points in shapes]
    document = {"shapes": listed, "imagePath": image_path, "imageWidth": SIZE[0], "imageHeight": SIZE[1], **more}
    path.write_text(json.dumps(document))


def coco(path: Path, segmentations: Sequence[Any], names: Sequence[str] = "") -> None:
    """One annotation an image."""
    names = names or [f"{i}.png" for i in range(len(segmentations))]
    images = [{"id": i, "file_name": name, "width": SIZE[0], "height": SIZE[1]} for i, name in enumerate(names)]
    rows = [{"id": 70 + i, "image_id": i, "category_id": 1, "segmentation": s} for i, s in enumerate(segmentations)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "categories": [{"id": 1, "name": "part"}], "annotations": rows}))


OUTLINE = [float(value) for corner in CORNERS for value in corner]


def test_rectangles_of_four_corners_and_rotated_boxes(own: Path, predict: Callable[..., Done]) -> None:
    (own / "four").mkdir()
    for name, kind in (("a", "rectangle"), ("b", "rotation")):
        picture().save(own / "four" / f"{name}.png")
        labelme(own / "four" / f"{name}.json", [(kind, CORNERS)], f"{name}.png")
    done = predict("support=four")
    assert done.code == 0, done.err
    (shown,) = record(own / "out")["supports"].values()
    drawn = np.mean(np.asarray(mask()) > 0)
    assert all(support["made_of_marks"] and 0 < support["share"] <= drawn for support in shown)


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("images", "json_name"),
    [
        ("images", "annotations/instances_default.json"),
        ("images/train", "annotations/instances_train.json"),
        ("train2017", "annotations/instances_train2017.json"),
        ("train", "train/_annotations.coco.json"),
        ("data", "labels.json"),
        ("images/a/b", "result.json"),
    ],
)
def test_annotations_beside_their_images(own: Path, predict: Callable[..., Done], images: str, json_name: str) -> None:
    (own / "export" / images).mkdir(parents=True)
    picture().save(own / "export" / images / "0.png")
    coco(own / "export" / json_name, [[OUTLINE]])
    folder = "export/train" if json_name.startswith("train/") else "export"
    for number, support in enumerate((folder, f"export/{json_name}")):
        done = predict(f"support={support}", f"out=out{number}")
        assert done.code == 0, done.err
        ((shown,),) = record(own / f"out{number}")["supports"].values()
        assert Path(shown["image"]).samefile(own / "export" / images / "0.png")


def test_a_name_that_occurs_twice(own: Path, predict: Callable[..., Done]) -> None:
    for folder in ("one", "two"):
        (own / "export" / folder).mkdir(parents=True)
        picture().save(own / "export" / folder / "0.png")
    coco(own / "export" / "annotations" / "instances_all.json", [[OUTLINE]])
    done = predict("support=export")
    assert done.code == 2 and "several images are called 0.png" in done.err and not (own / "out").exists()
    coco(own / "export" / "annotations" / "instances_two.json", [[OUTLINE]])
    assert predict("support=export/annotations/instances_two.json").code == 0


def test_good_outlines_are_used_and_the_others_named(own: Path, predict: Callable[..., Done]) -> None:
    sliver, far = [1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 1e8, 0.0, 5.0, 5.0]
    (own / "some").mkdir()
    for number in range(4):
        picture().save(own / "some" / f"{number}.png")
    coco(own / "some" / "all.json", [[OUTLINE], [OUTLINE, sliver], [], [far]])
    done = predict("support=some")
    assert done.code == 0, done.err
    content = record(own / "out")
    assert [Path(s["image"]).name for s in content["supports"]["part"]] == ["0.png", "1.png"]
    places = [line.partition(": ")[2] for line in content["left_out"]]
    assert [place.split()[1] for place in places] == ["71", "72", "73"]
    assert all(word in done.err for word in ("three points", "neither outline nor box", "far outside"))
    assert content["passed_over"] == {"some/2.png": "no outline in it", "some/3.png": "no outline in it"}


def test_good_shapes_are_used_and_the_others_named(own: Path, predict: Callable[..., Done]) -> None:
    (own / "some").mkdir()
    for name, shapes in {
        "a": [("polygon", CORNERS), ("circle", [[3, 3]]), ("line", [[1, 1]]), ("polygon", [[1, 1], [9, 9]])],
        "b": [("polygon", [[1, 1], [float("nan"), 2], [5, 5]])],
    }.items():
        picture().save(own / "some" / f"{name}.png")
        labelme(own / "some" / f"{name}.json", shapes, f"{name}.png")
    (own / "some" / "settings.json").write_text("{}")
    done = predict("support=some")
    assert done.code == 0, done.err
    left_out = "\n".join(record(own / "out")["left_out"])
    for part in (
        "a.json: shape 1",
        "a.json: shape 2",
        "a.json: shape 3",
        "b.json: shape 0",
        "nan",
        "settings.json: neither",
    ):
        assert part in left_out and part in done.err
    assert len(record(own / "out")["supports"]["part"]) == 1


@pytest.mark.one_in(3)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e8, -1e9])
@pytest.mark.parametrize("tool", ["coco", "labelme"])
def test_coordinates_that_are_no_place(own: Path, predict: Callable[..., Done], tool: str, bad: float) -> None:
    (own / "bad").mkdir()
    picture().save(own / "bad" / "0.png")
    if tool == "coco":
        coco(own / "bad" / "all.json", [[[bad, *OUTLINE[1:]]]])
    else:
        labelme(own / "bad" / "0.json", [("polygon", [(bad, 6), *CORNERS[1:]])], "0.png")
    done = predict("support=bad")
    assert done.code == 2 and "point 0" in done.err and ("finite" in done.err or "far outside" in done.err)
    assert ("annotation 70" if tool == "coco" else "shape 0 (part)") in done.err


@pytest.mark.parametrize("size", [(100_000, 100_000), (64, 2**31), (-3, 48), (60_000, 48)])
def test_sizes_that_are_not_the_images(own: Path, predict: Callable[..., Done], size: tuple[int, int]) -> None:
    (own / "bad").mkdir()
    picture().save(own / "bad" / "0.png")
    coco(own / "bad" / "all.json", [[OUTLINE]])
    document = json.loads((own / "bad" / "all.json").read_text())
    document["images"][0] |= {"width": size[0], "height": size[1]}
    (own / "bad" / "all.json").write_text(json.dumps(document))
    done = predict("support=bad")
    assert done.code == 2 and f"outlined at {size[0]} x {size[1]} pixels, but 0.png has 64 x 48" in done.err


@pytest.mark.parametrize("end", ["png", "jpg"])
def test_the_darkerinside_the_annotation(own: Path, predict: Callable[..., Done], end: str) -> None:
    (own / "alone").mkdir()
    content = io.BytesIO()
    picture().save(content, "PNG" if end == "png" else "JPEG", quality=95)
    inside = base64.b64encode(content.getvalue()).decode()
    labelme(own / "alone" / "a.json", [("polygon", CORNERS)], f"..\\photos\\a.{end}", imageData=inside)
    done = predict("support=alone")
    assert done.code == 0, done.err
    assert [s["image"] for s in record(own / "out")["supports"]["part"]] == ["alone/a.json"]
    labelme(own / "alone" / "a.json", [("polygon", CORNERS)], "gone.png", imageData=inside[:40])
    done = predict("support=alone", "out=other")
    assert done.code == 2 and "a.json: the image inside" in done.err


def pyramid(path: Path, *kinds: int) -> None:
    """A TIFF whose further pages, half and a quarter as large, have these NewSubfileTypes."""
    frames = [picture().resize((SIZE[0] >> i, SIZE[1] >> i)) for i in range(len(kinds) + 1)]
    with AppendingTiffWriter(str(path), True) as writer:
        for frame, kind in zip(frames, (0, *kinds), strict=True):
            frame.save(writer, "TIFF", tiffinfo={254: kind})
            writer.newFrame()


def test_overviews_are_no_pages(own: Path, predict: Callable[..., Done]) -> None:
    pyramid(own / "query" / "field.tif", 1, 5)
    pyramid(own / "query" / "stack.tif", 2, 0)
    (own / "support" / "images" / "a.png").unlink()
    pyramid(own / "support" / "images" / "a.tif", 1, 1)
    done = predict()
    assert done.code == 0, done.err
    rows = {row["mask"]: row for row in record(own / "out")["predictions"]}
    assert {*rows} == {"field_mask.png", "q_mask.png", "stack_p0_mask.png", "stack_p1_mask.png", "stack_p2_mask.png"}
    assert (rows["field_mask.png"]["width"], rows["field_mask.png"]["height"]) == SIZE


def big_png(path: Path, width: int, height: int) -> None:
    """A black picture of 1 bit, row by row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    row, packer = bytes(1 + (width + 7) // 8), zlib.compressobj(1)
    rows = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = width.to_bytes(4) + height.to_bytes(4) + bytes([1, 0, 0, 0, 0])
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def test_more_pixels_than_there_is_memory_for(own: Path, predict: Callable[..., Done]) -> None:
    big_png(own / "query" / "scan.png", 30_000, MAX_PIXELS // 30_000 + 1)
    done = predict("tile=512")
    assert done.code == 1 and "scan.png: " in done.err and "400 megapixels; cut it into pieces" in done.err
    assert "DOS attack" not in done.err and [row["mask"] for row in record(own / "out")["predictions"]] == ["q_mask.png"]


@pytest.mark.slow
def test_more_than_179_megapixels(own: Path, predict: Callable[..., Done]) -> None:
    big_png(own / "scan.png", 14_000, 13_000)
    done = predict("query=scan.png", "tile=4096", "batch_size=1")
    assert done.code == 0, done.err
    assert record(own / "out")["predictions"][0]["width"] == 14_000


def test_files_that_are_passed_over(own: Path, predict: Callable[..., Done]) -> None:
    for name in ("IMG_1.HEIC", "slice.dcm", "notes.txt", ".hidden.png", "Thumbs.db", ".DS_Store", "._q.png"):
        (own / "query" / name).write_bytes(b"nothing")
    (own / "query" / "older").mkdir()
    (own / "support" / "masks" / "a.xcf").write_bytes(b"gimp xcf")
    picture().save(own / "query" / "0001", "PNG")
    (own / "query" / "0002").write_bytes(b"nothing")
    done = predict()
    assert done.code == 0, done.err
    content = record(own / "out")
    named = {"IMG_1.HEIC", "slice.dcm", "notes.txt", "older", "a.xcf", "0002"}
    assert {Path(path).name for path in content["passed_over"]} == named and all(name in done.err for name in named)
    assert all(content["passed_over"].values()) and "convert it to PNG" in content["passed_over"]["query/IMG_1.HEIC"]
    assert [row["file"] for row in content["predictions"]] == ["query/0001", "query/q.png"]
    (own / "phone").mkdir()
    (own / "phone" / "IMG_1.HEIC").write_bytes(b"nothing")
    done = predict("query=phone", "out=none")
    assert done.code == 2 and "IMG_1.HEIC" in done.err and "convert it to PNG" in done.err


def test_the_end_says_what_was_found_and_where(own: Path, predict: Callable[..., Done]) -> None:
    done = predict("threshold=0.999999")
    assert "out: objects found in 0 of 1 images" in done.err and "support object: a.png 46.7%" in done.err
    done = predict("threshold=0.000001", "out=other")
    assert re.search(r"objects found in (\d) of \1 images: .*% of an image is object \(median; ", done.err)


@pytest.mark.parametrize(("rows", "message"), [(0, "99.9% of the picture: is it the background?"), (47, "covers 0.033%")])
def test_doubtful_supports_are_named(own: Path, predict: Callable[..., Done], rows: int, message: str) -> None:
    drawn = np.full(SIZE[::-1], 255 * (rows == 0), np.uint8)
    drawn[rows, :2] = 0 if rows == 0 else 255
    drawn[rows, 1] = 0 if rows else drawn[rows, 1]
    Image.fromarray(drawn).resize((640, 480), Image.Resampling.NEAREST).save(own / "support" / "masks" / "a.png")
    picture().resize((640, 480)).save(own / "support" / "images" / "a.png")
    done = predict()
    assert "support/images/a.png: the object covers" in done.err and message in done.err


NAMES = ["ä" * 122 + ".png", "ä" * 121 + "b.png", "1.png", "01.png", "2.jpg", "(x), y=[1].png", "1e3.png"]


def test_names_of_every_kind(own: Path, predict: Callable[..., Done]) -> None:
    stored = [*map(os.fsencode, NAMES), b"caf\xe9.png"]
    for name in stored:
        picture().save(os.path.join(os.fsencode(own), b"query", name).decode(errors="surrogateescape"))
    done = predict()
    assert done.code == 0, done.err
    rows = record(own / "out")["predictions"]
    assert {os.fsencode(Path(row["file"]).name) for row in rows} == {*stored, b"q.png"}
    for row in rows:
        assert (own / "out" / row["mask"]).is_file() and (own / "out" / row["overlay"]).is_file()
    assert len({row["mask"] for row in rows}) == len(rows) and (own / "out" / "contact_sheet.png").is_file()


def test_names_that_differ_only_where_they_are_too_long(tmp_path: Path) -> None:
    for end in "abc":
        (tmp_path / f"{'x' * 246}{end}.png").write_bytes(b"")
    names = [query.name for query in find_queries(str(tmp_path)).images]
    assert len(set(names)) == 3 and max(map(len, names)) + len("_overlay.png") <= 255


def test_names_of_results_are_unlike_on_every_file_system() -> None:
    """Accents in one or two characters, capitals; and a number at once, however many files have a name."""
    spelled = [
        Path(form, f"{name}.png") for form, name in (("a", "\u00e9"), ("b", "e\u0301"), ("c", "\u00c9"), ("d", "E\u0301"))
    ]
    names = [query.name for query in named([*spelled, *(Path(f"{i}", "x.png") for i in range(5000))])]
    assert len({unicodedata.normalize("NFC", name).casefold() for name in names}) == len(names)
    assert names[:2] == ["\u00e9", "e\u0301.png"] and names[4:8] == ["x", "x.png", "x.png_2", "x.png_3"]
    shared = [query.name for query in named(Path(f"{i}", f"{'y' * 260}{i}.png") for i in range(1000))]
    assert len({*shared}) == 1000 and max(map(len, shared)) + len("_overlay.png") <= 255


LISTS: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "capitals": ("csv", lambda name: f"No,PATH\n1,{name}\n".encode()),
    "Excel's separator line": ("CSV", lambda name: f"sep=;\r\npath;x\r\n{name};1\r\n".encode()),
    "UTF-16": ("csv", lambda name: f"path\tx\n{name}\t1\n".encode("utf-16")),
    "UTF-16 without mark": ("csv", lambda name: f"path\n{name}\n".encode("utf-16-be")),
    "lines in UTF-16": ("txt", lambda name: f"{name}\r\n".encode("utf-16")),
    "old Mac": ("txt", lambda name: f"# these\r{name}\r".encode()),
    "backslashes": ("txt", lambda name: name.replace("/", "\\").encode()),
    "backslashes in cells": ("csv", lambda name: f'"path"\n"{name}"\n'.replace("/", "\\").encode()),
    "columns of one name": ("csv", lambda name: f",note,note,path\n1,,,{name}\n2\n".encode()),
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_as_programs_write_them(tmp_path: Path, kind: str) -> None:
    """As manifests are."""
    end, write = LISTS[kind]
    (tmp_path / "in" / "photos").mkdir(parents=True)
    picture().save(tmp_path / "in" / "photos" / "Grün 1.png")
    (tmp_path / "in" / f"list.{end}").write_bytes(write("../in/photos/Grün 1.png"))
    (query,) = find_queries(str(tmp_path / "in" / f"list.{end}")).images
    assert query.read().size == SIZE


def test_a_backslash_may_be_part_of_a_name(tmp_path: Path) -> None:
    picture().save(tmp_path / "a\\b.png")
    (tmp_path / "list.txt").write_text("a\\b.png\n" + "x" * 300 + ".png\n")
    good, long = find_queries(str(tmp_path / "list.txt")).images
    assert good.read().size == SIZE
    with pytest.raises(DataError, match="File name too long"):
        long.read()


@pytest.mark.parametrize("query", ["x" * 300, "~nouser-at-all/*.png", "loop/x.png", "a\0b"])
def test_queries_that_are_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: str) -> None:
    monkeypatch.chdir(tmp_path)
    os.symlink("loop", "loop")
    with pytest.raises(ConfigError, match=r"query=.*; give another path"):
        find_queries(query)


def test_apple_double_files(pascal_root: Path, own: Path, predict: Callable[..., Done]) -> None:
    (pascal_root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (pascal_root / "ImageSets" / "Segmentation" / "val.txt").write_text("val_01_0\n")
    for path in [*pascal_root.rglob("*.png"), *pascal_root.rglob("*.jpg"), *own.rglob("*.png")]:
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07" + bytes(220))
    (own / "support" / "images" / "Thumbs.db").write_bytes(bytes(9))
    source = Pascal5i(str(pascal_root))
    source.check()
    assert all(not name.startswith("._") for subset in Subset for name, _ in source.pairs(subset))
    done = predict()
    assert done.code == 0 and "passed over" not in done.err, done.err


def test_pictures_of_other_formats_start_no_program(own: Path, predict: Callable[..., Done]) -> None:
    """By content an EPS, which Pillow would hand to Ghostscript, and a TGA."""
    (own / "query" / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    picture().save(own / "query" / "y.png", "TGA")
    done = predict()
    assert done.code == 1 and done.err.count("no image of a format that is read (PNG, JPEG") == 2
    (own / "support" / "masks" / "a.png").write_bytes((own / "query" / "x.png").read_bytes())
    done = predict("query=query/q.png", "out=other")
    assert done.code == 2 and "support/masks/a.png: no image of a format" in done.err


def deep(path: Path, brightest: int) -> None:
    gray = np.asarray(picture().convert("L")).astype(np.uint16)
    Image.fromarray(gray * (brightest // 255)).save(path)


def test_slices_of_a_set_have_one_scale(own: Path, predict: Callable[..., Done], checkpoint: Path) -> None:
    """A dark slice of 12 bits stays darker than a bright one, in predictions, for the Segmenter and with data=folder."""
    deep(own / "query" / "bright.png", 4080)
    deep(own / "query" / "dark.png", 1020)
    done = predict()
    assert done.code == 0, done.err
    assert record(own / "out")["settings"]["bits"] == 12
    dark, bright = (
        np.asarray(read_image(own / "query" / f"{name}.png", bits=12)).astype(int) for name in ("dark", "bright")
    )
    assert abs(4 * dark - bright).max() <= 3
    segmenter = Segmenter.from_checkpoint(checkpoint).fit(own / "support" / "images" / "a.png", np.asarray(mask()))
    for row in record(own / "out")["predictions"][:2]:
        shown = (dark if "dark" in row["file"] else bright).astype(np.uint8)
        expected = segmenter.predict(shown)
        assert np.array_equal(np.asarray(Image.open(own / "out" / row["mask"])) > 0, expected > 0)
    done = predict("query=query/dark.png", "bits=8", "out=other")
    assert done.code == 2 and "bits=8: there are images of 10 bits" in done.err
    assert predict("query=query/dark.png", "bits=16", "out=other").code == 0
    for part in ("images", "masks"):
        (own / "set" / "cat" / part).mkdir(parents=True)
    for name, brightest in (("dark", 1020), ("bright", 4080)):
        deep(own / "set" / "cat" / "images" / f"{name}.png", brightest)
        mask().save(own / "set" / "cat" / "masks" / f"{name}.png")
    source = Folder(str(own / "set"))
    source.check()
    assert np.array_equal(np.asarray(source.image("cat/images/dark.png")), dark)


def test_a_stack_as_support_says_so(own: Path) -> None:
    pyramid(own / "support" / "images" / "a.tif", 0)
    with pytest.raises(DataError, match=r"a\.tif: 2 pages"):
        read_image(own / "support" / "images" / "a.tif")


def test_masks_that_are_called_as_tools_call_them(own: Path, predict: Callable[..., Done]) -> None:
    """With a usual end, in letters that macOS writes otherwise, in capitals."""
    decomposed = unicodedata.normalize("NFD", "Grün")
    names = {
        "b.png": "b_mask.png",
        "Grün.png": f"{decomposed}.png",
        "IMG_7.png": "img_7-mask.png",
        "c_mask.png": "c_mask.png",
    }
    for image, drawn in names.items():
        picture().save(own / "support" / "images" / image)
        mask().save(own / "support" / "masks" / drawn)
    done = predict()
    assert done.code == 0, done.err
    shown = {Path(s["image"]).name: Path(s["mask"]).name for s in record(own / "out")["supports"]["object"]}
    assert shown == {"a.png": "a.png", **names}
    mask().save(own / "support" / "masks" / "b_seg.png")
    done = predict("out=other")
    assert done.code == 2 and "b has 1 images and 2 masks" in done.err


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ("Grün 1.png", unicodedata.normalize("NFD", "Grün 1.png")),
        ("IMG_1.JPG", "img_1.jpg"),
        ("a b.png", "images/a%20b.png"),
        ("a.png", "C:\\Users\\me\\images\\a.png"),
    ],
)
def test_names_that_another_system_wrote(own: Path, predict: Callable[..., Done], stored: str, said: str) -> None:
    (own / "export" / "images").mkdir(parents=True)
    picture().save(own / "export" / "images" / stored)
    coco(own / "export" / "result.json", [OUTLINE], [said])  # an outline that is no list of outlines, as some write it
    done = predict("support=export")
    assert done.code == 0, done.err
    assert record(own / "out")["supports"]["part"][0]["share"] > 0.4


def test_outlines_of_a_photograph_as_it_is_stored(own: Path, predict: Callable[..., Done]) -> None:
    """Tools that do not heed EXIF outline the picture on its side; the size says so."""
    (own / "phone").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().save(own / "phone" / "0.png", exif=exif)
    coco(own / "phone" / "all.json", [[[2, 1, 20, 1, 20, 9, 2, 9]]])
    ((_, _, drawn, _),) = read_annotations(own / "phone" / "all.json").found
    expected = np.zeros(SIZE[::-1], bool)
    expected[1:9, 2:20] = True
    assert drawn.shape == SIZE and np.array_equal(drawn, np.rot90(expected, -1))
    assert predict("support=phone").code == 0


def test_annotations_in_a_folder_beside_the_images(own: Path, predict: Callable[..., Done]) -> None:
    for folder in ("labels", "images"):
        (own / "project" / folder).mkdir(parents=True)
    picture().save(own / "project" / "images" / "a.png")
    labelme(own / "project" / "labels" / "a.json", [("polygon", CORNERS)], "..\\frames\\a.png")
    done = predict("support=project")
    assert done.code == 0, done.err


def test_json_with_a_byte_order_mark(own: Path, predict: Callable[..., Done]) -> None:
    (own / "windows").mkdir()
    picture().save(own / "windows" / "a.png")
    labelme(own / "windows" / "a.json", [("polygon", CORNERS)], "a.png")
    text = (own / "windows" / "a.json").read_text()
    for encoding in ("utf-8-sig", "utf-16"):
        (own / "windows" / "a.json").write_bytes(text.encode(encoding))
        done = predict("support=windows", f"out={encoding}")
        assert done.code == 0, done.err


@pytest.mark.parametrize(("classes", "shots"), [(1, 50), (20, 1)])
def test_many_shots_many_classes_and_pictures_of_one_row(
    own: Path, predict: Callable[..., Done], classes: int, shots: int
) -> None:
    sizes = [(1, 1), (1, 5000), (5000, 1)]
    for number in range(classes):
        folder = own / "many" / f"c{number:02d}"
        for part in ("images", "masks"):
            (folder / part).mkdir(parents=True)
        for shot in range(shots):
            picture(number + shot).save(folder / "images" / f"{shot}.png")
            mask().save(folder / "masks" / f"{shot}.png")
        for shot, size in enumerate(sizes[:shots]):
            Image.new("RGB", size, (90, 20, 30)).save(folder / "images" / f"{shot}.png")
            Image.new("L", size, 255).save(folder / "masks" / f"{shot}.png")
    for size in sizes:
        Image.new("RGB", size, (90, 20, 30)).save(own / "query" / f"{size[0]}x{size[1]}.png")
    done = predict("support=many")
    assert done.code == 0, done.err
    rows = record(own / "out")["predictions"]
    assert len(rows) == 4 and {len(row["area"]) for row in rows} == {classes}
    for row in rows:
        labels = np.asarray(Image.open(own / "out" / row["mask"]))
        assert labels.shape == (row["height"], row["width"]) and len(np.unique(labels)) <= classes + 1
