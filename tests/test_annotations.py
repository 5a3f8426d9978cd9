"""What annotation files say in ways of their own: ids, sizes, several files of one picture, marks that count together."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mshnet_pl.data.io.annotations import read_annotations
from mshnet_pl.data.io.marks import INSIDE, OBJECT, Marks
from mshnet_pl.data.io.outlines import Known
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.inference.supports import Support, read_supports

WIDTH, HEIGHT = 40, 30
LEFT, RIGHT = [2, 3, 12, 3, 12, 13, 2, 13], [20, 5, 30, 5, 30, 15, 20, 15]


def pairs(flat: list[int]) -> list[list[int]]:
    return [flat[i : i + 2] for i in range(0, len(flat), 2)]


def area(flat: list[int], turn: int = 0) -> np.ndarray:
    """The rectangle's pixels, with those on its edges, as polygons of LabelMe have them."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[flat[1] : flat[5] + 1, flat[0] : flat[2] + 1] = True
    return np.rot90(mask, turn)


def shown(support: Support) -> np.ndarray:
    assert not isinstance(support.mask, Path)
    if isinstance(support.mask, Marks):
        told = support.mask.told()
        return (told == OBJECT) | (told == INSIDE)
    return support.mask


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def written(folder: Path, document: Any, name: str = "a.json", pictures: str = "ab", exif: int = 1) -> Path:  # noqa: ANN401
    folder.mkdir(exist_ok=True)
    orientation = Image.Exif()
    orientation[0x0112] = exif
    for picture in pictures:
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / f"{picture}.png", exif=orientation)
    (folder / name).write_text(json.dumps(document))
    return folder / name


def coco(images: list[dict[str, Any]], annotations: list[dict[str, Any]], categories: Any = None) -> dict[str, Any]:  # noqa: ANN401
    rows = [{"id": i, "category_id": 1, **row} for i, row in enumerate(annotations)]
    return {"images": images, "annotations": rows, "categories": categories or [{"id": 1, "name": "cat"}]}


def labelme(*shapes: dict[str, Any], **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"shapes": [{"label": "cat", **shape} for shape in shapes], "imagePath": "a.png", **more}


A, B = {"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}


@pytest.mark.parametrize(
    ("images", "ids", "files", "said"),
    [
        ([A, {**B, "id": 1}], [1, 1], [], "annotation 0 (image 1, category 1): image 1 is a.png and b.png; give each an id"),
        ([A, {**A, "width": 30, "height": 40}], [1], [], "image 1 is a.png and a.png (30 x 40); give each an id"),
        ([A, A, B], [1, 2], ["a.png", "b.png"], ""),
        ([A, {**B, "id": "x"}], [1, "x"], ["a.png", "b.png"], ""),
        ([{**A, "id": "7"}, B], [7, "2"], ["a.png", "b.png"], ""),
        ([B, A], [1, 2], ["b.png", "a.png"], ""),
        ([{**A, "id": 1.0}, B], [1, 2.0], ["a.png", "b.png"], ""),
        ([A], [1, "1e"], ["a.png"], "annotation 1 (image 1e, category 1): the file has no such image"),
    ],
)
def test_ids_of_images(tmp_path: Path, images: Any, ids: list[Any], files: list[str], said: str) -> None:  # noqa: ANN401
    path = written(tmp_path / "s", coco(images, [{"image_id": i, "segmentation": [LEFT]} for i in ids]))
    if files:
        supports = read_supports(path)
        assert [support.file.name for support in supports.classes["cat"]] == files
        assert said in "".join(supports.left_out) and bool(said) == bool(supports.left_out)
    else:
        with pytest.raises(DataError) as error:
            read_supports(path)
        assert said in str(error.value)


def test_ids_of_categories(tmp_path: Path) -> None:
    rows = [{"image_id": 1, "category_id": c, "segmentation": [s]} for c, s in ((1, LEFT), (2, RIGHT), (3, LEFT))]
    named = [{"id": c, "name": name} for c, name in ((1, "cat"), (2, "cat"), (3, "dog"), (3, "cow"))]
    supports = read_supports(written(tmp_path / "s", coco([A], rows, named)))
    (one,) = supports.classes["cat"]
    assert {*supports.classes} == {"cat"} and overlap(shown(one), area(LEFT) | area(RIGHT)) > 0.8
    assert len(supports.left_out) == 1 and "category 3 is dog and cow; give each an id of its own" in supports.left_out[0]


BOXES: list[dict[str, Any]] = [{"image": "a.png", "label": "cat", "boxes": [[*s[:2], *s[4:6]]]} for s in (LEFT, RIGHT)]
IDS = [{"image_id": i, "segmentation": [s]} for i, s in ((1, LEFT), (3, RIGHT))]
TOGETHER: dict[str, list[dict[str, Any]]] = {
    "rows of a JSON of marks": [{"marks": BOXES}],
    "JSON files of marks": [{"marks": [row]} for row in BOXES],
    "LabelMe files": [labelme({"points": pairs(s)}) for s in (LEFT, RIGHT)],
    "an outline and a box": [labelme({"points": pairs(LEFT)}), labelme({"points": pairs(RIGHT), "shape_type": "rectangle"})],
    "images of one file": [coco([A, {**A, "id": 3}], IDS)],
    "COCO and LabelMe": [coco([A], IDS[:1]), labelme({"points": pairs(RIGHT)})],
}


@pytest.mark.parametrize("kind", TOGETHER)
def test_what_is_marked_of_a_class_in_a_picture_counts_together(tmp_path: Path, kind: str) -> None:
    for number, document in enumerate(TOGETHER[kind]):
        written(tmp_path / "s", document, f"{number}.json")
    supports = read_supports(tmp_path / "s")
    (one,) = supports.classes["cat"]
    assert overlap(shown(one), area(LEFT) | area(RIGHT)) > 0.8 and not supports.left_out


def test_negative_marks_of_their_own(tmp_path: Path) -> None:
    """They belong to what marks the object elsewhere; alone they show nothing."""
    rows = [{"image": f"{i}.png", "points": [[25, 10, 0]]} for i in "ab"]
    path = written(tmp_path / "s", {"marks": [*rows, {"image": "a.png", "boxes": [[20, 5, 30, 15]]}]})
    supports = read_supports(path)
    (one,) = supports.classes["object"]
    assert not shown(one)[10, 25] and shown(one)[6, 21]
    assert len(supports.left_out) == 1 and "b.png: what marks object in it shows no pixel of it" in supports.left_out[0]
    with pytest.raises(DataError, match=r"a\.png: what marks object in it shows no pixel of it"):
        read_supports(written(tmp_path / "s", {"marks": rows[:1]}))


UNKNOWN: list[dict[str, Any]] = [
    {},
    {"w": None, "h": None},
    {"w": 0, "h": 0},
    {"w": str(WIDTH), "h": f"{HEIGHT}.0"},
    {"w": ""},
]


@pytest.mark.parametrize("size", UNKNOWN)
def test_sizes_that_are_not_known_or_text(tmp_path: Path, size: dict[str, Any]) -> None:
    said = {{"w": "width", "h": "height"}[key]: value for key, value in size.items()}
    image = {"id": 1, "file_name": "a.png", **said}
    path = written(tmp_path / "coco", coco([image], [{"image_id": 1, "segmentation": [LEFT]}]))
    assert read_annotations(path).found
    more = {f"image{key.capitalize()}": value for key, value in said.items()}
    assert read_annotations(written(tmp_path / "labelme", labelme({"points": pairs(LEFT)}, **more))).found
    for wrong in ("41", "wide", float("nan"), 10**400):
        with pytest.raises(DataError, match=rf"outlined at {wrong} x {HEIGHT} pixels, but a\.png has 40 x 30"):
            read_annotations(written(tmp_path / "x", labelme({"points": pairs(LEFT)}, imageWidth=wrong, imageHeight=HEIGHT)))


@pytest.mark.parametrize("end", ["png", "tif"])
@pytest.mark.parametrize("as_stored", [True, False])
@pytest.mark.parametrize("kind", ["polygon", "rectangle", "coco", "coco box"])
def test_pictures_on_their_side(tmp_path: Path, kind: str, as_stored: bool, end: str) -> None:
    size = (WIDTH, HEIGHT) if as_stored else (HEIGHT, WIDTH)
    if kind.startswith("coco"):
        image = {"id": 1, "file_name": f"a.{end}", "width": size[0], "height": size[1]}
        how = {"bbox": [2, 3, 10, 10]} if "box" in kind else {"segmentation": [LEFT]}
        document = coco([image], [{"image_id": 1, **how}])
    else:
        shape = {"points": pairs(LEFT), "shape_type": kind}
        document = labelme(shape, imageWidth=size[0], imageHeight=size[1], imagePath=f"a.{end}")
    path = written(tmp_path / "s", document, pictures="")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "s" / f"a.{end}", exif=exif)
    (one,) = read_supports(path).classes["cat"]
    expected = area(LEFT, -1) if as_stored else np.zeros((WIDTH, HEIGHT), bool)
    if not as_stored:
        expected[3:14, 2:13] = True
    assert shown(one).shape == (WIDTH, HEIGHT) and overlap(shown(one), expected) > 0.8
    assert isinstance(one.mask, Marks) == (kind in ("rectangle", "coco box"))


def test_json_in_capitals(tmp_path: Path) -> None:
    written(tmp_path / "s", labelme({"points": pairs(LEFT)}), "A.JSON")
    assert [*read_supports(tmp_path / "s").classes] == ["cat"]


def test_json_beside_folders_of_classes(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / "s" / "dog" / part).mkdir(parents=True)
        Image.fromarray(area(LEFT)).save(tmp_path / "s" / "dog" / part / "a.png")
    path = written(tmp_path / "s", {"made": "today"}, "info.json", "")
    supports = read_supports(tmp_path / "s")
    assert [*supports.classes] == ["dog"] and "folders of classes" in supports.passed_over[path]


COCO_ROWS: list[tuple[dict[str, Any], bool, str]] = [
    ({"segmentation": [[]], "bbox": [2, 3, 10, 10]}, True, ""),
    ({"segmentation": [LEFT], "bbox": []}, True, ""),
    ({"segmentation": [LEFT], "iscrowd": "0"}, True, ""),
    ({"segmentation": [LEFT], "iscrowd": False}, True, ""),
    ({"segmentation": [LEFT], "iscrowd": "1"}, False, "a crowd"),
    ({"segmentation": [], "bbox": []}, False, "neither outline nor box"),
    ({"segmentation": [[]]}, False, "neither outline nor box"),
    ({"bbox": [2, 3]}, False, "a box of 2 numbers; give left and upper edge, width and height"),
    ({}, False, "no segmentation"),
]


@pytest.mark.parametrize(("row", "read", "said"), COCO_ROWS)
def test_rows_of_coco(tmp_path: Path, row: dict[str, Any], read: bool, said: str) -> None:
    path = written(tmp_path / "s", coco([A], [{"image_id": 1, **row}]))
    if read:
        (one,) = read_supports(path).classes["cat"]
        assert overlap(shown(one), area(LEFT)) > 0.8
    else:
        with pytest.raises(DataError, match=said):
            read_supports(path)


SHAPES: list[tuple[dict[str, Any], str]] = [
    ({"shape_type": "oriented_rectangle"}, ""),
    ({"flags": []}, ""),
    ({"flags": None}, ""),
    ({"flags": ["negative"]}, r"flags \['negative'\]; give \{\"negative\": true\}, or none"),
    ({"flags": {"negative": "false"}}, r"the flag negative is 'false'; give true or false"),
    ({"flags": {"Negative": True}}, "a polygon that is negative"),
    ({"flags": {"negative": None, "seen": "yes"}}, ""),
    ({"label": "\ud800"}, r"the class '\\ud800' is no text in UTF-8"),
]


@pytest.mark.parametrize(("shape", "said"), SHAPES)
def test_shapes_of_labelme(tmp_path: Path, shape: dict[str, Any], said: str) -> None:
    path = written(tmp_path / "s", labelme({"points": pairs(LEFT), **shape}))
    if said:
        with pytest.raises(DataError, match=said):
            read_supports(path)
    else:
        (one,) = read_supports(path).classes["cat"]
        assert overlap(shown(one), area(LEFT)) > 0.8 and isinstance(one.mask, Marks) == ("shape_type" in shape)


def test_one_class_in_several_spellings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody sees is no other class; capitals are, which is said."""
    for number, label in enumerate(("Käse", "Ka\u0308se ", " Käse", "käse")):
        written(tmp_path / "s", labelme({"points": pairs(LEFT), "label": label}, imagePath="a.png"), f"{number}.json", "a")
    assert {*read_supports(tmp_path / "s").classes} == {"Käse", "käse"}
    assert [r.getMessage() for r in caplog.records] == [
        f"support={tmp_path}/s: classes that differ in capitals alone: Käse, käse"
    ]


@pytest.mark.parametrize(
    ("marks", "said"),
    [
        ({"image": "a.png"}, "marks is a dict in place of a list"),
        ("a.png", "a str in place"),
        ([["a.png"]], "a list in place"),
    ],
)
def test_marks_of_another_form(tmp_path: Path, marks: Any, said: str) -> None:  # noqa: ANN401
    path = written(tmp_path / "s", {"marks": marks})
    with pytest.raises(DataError, match=said):
        read_supports(path)


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "gone/" * 2000 + "x.png", "a\0b.png"])
def test_the_picture_inside_whatever_the_file_is_called(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "inside.png")
    picture = base64.b64encode((tmp_path / "inside.png").read_bytes()).decode()
    path = written(tmp_path / "s", labelme({"points": pairs(LEFT)}, imagePath=name, imageData=picture))
    (one,) = read_supports(path).classes["cat"]
    assert one.file == path


def test_a_folder_is_looked_through_once(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / "s" / "deep" / str(i)).mkdir(parents=True)
        path = written(tmp_path / "s", labelme({"points": pairs(LEFT)}, imagePath=f"{i}.png"), f"{i}.json", "")
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "s" / "deep" / str(i) / f"{i}.png")
    known: Known = {}
    read_annotations(path, known)
    assert [*known] == [tmp_path / "s"] and len(read_supports(tmp_path / "s").classes["cat"]) == 3


@pytest.mark.parametrize("root", ["x" * 300, "~nouser-at-all/x", "loop/x", "a\0b"])
def test_places_that_are_none(tmp_path: Path, root: str) -> None:
    os.symlink("loop", tmp_path / "loop")
    place = Path(root) if root.startswith("~") else tmp_path / root
    with pytest.raises(ConfigError, match=r"(?s)support=.*; give another path"):
        read_supports(place)
