"""``mshnet-predict`` on folders as people have them: each test draws one situation."""

import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import AppendingTiffWriter

from conftest import Done
from mshnet_pl import Segmenter
from mshnet_pl.data.io.images import MAX_PIXELS, read_image
from mshnet_pl.data.sources.folder import Folder
from mshnet_pl.data.sources.pascal5i import Pascal5i
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.inference.queries import find_queries, named
from mshnet_pl.options import Subset
from own_pictures import SIZE, big_png, mask, picture, record
from own_pictures import own as own
from own_pictures import predict as predict


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
    assert "support/masks/a.png: the object covers" in done.err and message in done.err


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
