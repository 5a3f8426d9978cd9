"""``mshnet-predict`` on annotations as tools leave them: each test draws one situation."""

import base64
import io
import json
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import Done
from mshnet_pl.data.io.annotations import read_annotations
from own_pictures import CORNERS, SIZE, mask, picture, record
from own_pictures import own as own
from own_pictures import predict as predict


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


def test_an_outline_of_a_picture_that_is_not_there_is_never_drawn_on_another(
    own: Path, predict: Callable[..., Done]
) -> None:
    """Pictures of one name in two folders, of which one was not copied."""
    for tool in ("coco", "labelme"):
        folder = own / tool / "images" / "train"
        folder.mkdir(parents=True)
        picture().save(folder / "1.png")
        other = [[0, 42, 60, 42, 60, 47]]
        if tool == "coco":
            coco(own / tool / "all.json", [other, [OUTLINE]], ["val/1.png", "train/1.png"])
        else:
            labelme(own / tool / "a.json", [("polygon", [[0, 42], [60, 42], [60, 47]])], "..\\val\\1.png")
            labelme(own / tool / "b.json", [("polygon", CORNERS)], "train/1.png")
        done = predict(f"support={tool}", f"out=out_{tool}")
        assert done.code == 0, done.err
        content = record(own / f"out_{tool}")
        (left_out,) = content["left_out"]
        assert "val" in left_out and "which is not there; put it there" in left_out and left_out in done.err
        (support,) = content["supports"]["part"]
        assert 0.44 < support["share"] < 0.47  # with the other outline 0.49
    for name, place in (("a", "D:\\one\\1.png"), ("b", "D:\\two\\1.png")):
        labelme(own / "labelme" / f"{name}.json", [("polygon", CORNERS)], place)
    done = predict("support=labelme", "out=none")
    assert done.code == 2 and "D:\\one\\1.png" in done.err and "D:\\two\\1.png" in done.err


def test_shapes_outside_of_the_picture_are_named(own: Path, predict: Callable[..., Done]) -> None:
    outside = [[SIZE[0] + 5, 2], [SIZE[0] + 9, 2], [SIZE[0] + 9, 9]]
    (own / "a").mkdir()
    picture().save(own / "a" / "0.png")
    labelme(own / "a" / "0.json", [("polygon", CORNERS), ("polygon", outside), ("point", outside[:1])], "0.png")
    (own / "b").mkdir()
    picture().save(own / "b" / "0.png")
    coco(own / "b" / "all.json", [[OUTLINE, [x for corner in outside for x in corner]]])
    for folder, count in (("a", 2), ("b", 1)):
        done = predict(f"support={folder}", f"out=out_{folder}")
        assert done.code == 0, done.err
        content = record(own / f"out_{folder}")
        assert len(content["left_out"]) == count and not content["supports"]["part"][0]["made_of_marks"]


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
    ((_, _, drawn, *_),) = read_annotations(own / "phone" / "all.json").found
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
