"""Boxes, scribbles and points: what they tell, the masks that are made of them, and every door that takes them."""

import base64
import io
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import Command
from mshnet_pl import Segmenter
from mshnet_pl.data.io.annotations import read_annotations
from mshnet_pl.data.io.marks import BACKGROUND, INSIDE, OBJECT, OPEN, Marks, read_marks
from mshnet_pl.data.loading.weak_supports import weakened
from mshnet_pl.errors import DataError
from mshnet_pl.inference import completion
from mshnet_pl.inference.completion import complete
from mshnet_pl.inference.supports import read_supports
from mshnet_pl.options import EVERY_FOLD, SupportKind

WIDTH, HEIGHT = 128, 96


def disk() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return (x - 55) ** 2 + (y - 40) ** 2 < 24**2


def picture() -> np.ndarray:
    """An orange disk on gray, with noise."""
    pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    pixels[disk()] = 240, 150, 10
    return pixels + np.random.default_rng(0).integers(0, 10, pixels.shape).astype(np.uint8)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter.from_pretrained(device="cpu")


BOX = (31, 16, 79, 64)
MARKS: list[dict[str, Any]] = [
    {"boxes": BOX},
    {"points": (55, 40)},
    {"points": [(55, 40, 1), (5, 5, 0)]},
    {"scribbles": [(45, 30), (65, 50)]},
    {"scribbles": [[(45, 30), (65, 50)], np.array([[40, 45], [50, 45]])]},
    {"scribbles": disk() & (np.mgrid[:HEIGHT, :WIDTH][0] == 40)},
    {"boxes": [BOX], "points": [(55, 40)], "scribbles": [(45, 30), (65, 50)]},
]


@pytest.mark.parametrize("marks", MARKS)
def test_masks_are_made_of_marks(segmenter: Segmenter, marks: dict[str, Any]) -> None:
    drawn = read_marks((WIDTH, HEIGHT), marks.get("boxes"), marks.get("points"), marks.get("scribbles"), "marks")
    (made,), told = segmenter.complete([picture()], [drawn]), drawn.told()
    assert made[told == OBJECT].all() and not made[told == BACKGROUND].any()
    assert iou(made, disk()) > iou(told == OBJECT, disk()) + 0.1
    other = segmenter.fresh().fit(picture(), **marks)
    assert iou(other.predict(picture()) > 0, disk()) > iou(told == OBJECT, disk()) + 0.1
    if "boxes" in marks:  # more than the rectangle, whose share is pi / 4
        assert iou(made, disk()) > iou(told != BACKGROUND, disk()) + 0.03
    assert np.array_equal(made, segmenter.complete([picture()], [drawn])[0])


def test_several_images_with_marks_of_their_own(segmenter: Segmenter) -> None:
    both = segmenter.fresh().fit("disk", [picture(), picture()[:, ::-1]], boxes=[BOX, None], points=[None, (WIDTH - 55, 40)])
    assert both.classes == ("disk",) and iou(both.predict(picture()) > 0, disk()) > 0.8


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ({"boxes": (1, 2, 3)}, r"boxes: an array of shape \(3,\)"),
        ({"boxes": "all"}, "boxes: str all is no array of numbers"),
        ({"boxes": (9, 9, 9, 20)}, "has no area"),
        ({"points": (500, 1)}, r"\(500, 1\) lies outside of the image of 128 x 96"),
        ({"points": (5, 5, 2)}, "marked 2"),
        ({"points": (5, 5, 0)}, "nothing marks the object"),
        ({"points": (5, float("nan"))}, "not finite"),
        ({"points": (5, 10**400)}, "is no array of numbers"),
        ({"scribbles": np.ones((3, 3), bool)}, r"shape \(3, 3\), but the image has \(96, 128\)"),
        ({"scribbles": 7}, r"scribbles: an array of shape \(\)"),
    ],
)
def test_bad_marks_are_named(segmenter: Segmenter, marks: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"object: image 0: .*{message}"):
        segmenter.fresh().fit(picture(), **marks)


def test_as_many_marks_as_images(segmenter: Segmenter) -> None:
    with pytest.raises(DataError, match="2 images and boxes for 1"):
        segmenter.fresh().fit([picture()] * 2, boxes=[BOX])
    with pytest.raises(TypeError, match="boxes, points and scribbles by name"):
        segmenter.fresh().fit(picture(), disk(), boxes=BOX)  # type: ignore[call-overload]


def test_what_marks_tell() -> None:
    marks = Marks((40, 30))
    marks.polygon([(2, 2), (6, 2), (6, 6), (2, 6)])
    assert marks.is_mask and set(np.unique(marks.told())) == {BACKGROUND, OBJECT}
    marks.scribble([(20, 15)])
    told = marks.told()
    assert not marks.is_mask and told[4, 4] == OBJECT == told[15, 20] and told[28, 38] == OPEN
    marks.box((15, 10, 25, 20))
    marks.scribble([(16, 19)], positive=False)
    told = marks.told()
    assert told[28, 38] == BACKGROUND == told[19, 16] and told[10, 15] == INSIDE == told[10, 25] and told[15, 20] == OBJECT


def test_without_unknown_pixels_a_mask_stays_as_it_is() -> None:
    told = torch.zeros(1, 32, 32, dtype=torch.uint8)
    told[0, 4:9, 5:20] = OBJECT
    features = tuple(torch.rand(1, 1, 3, side, side) for side in (8, 4, 2))
    assert torch.equal(complete(features, torch.rand(1, 3, 32, 32), told), told == OBJECT)


@pytest.mark.parametrize("kind", [*SupportKind])
def test_what_tests_show_of_a_mask(kind: SupportKind) -> None:
    mask = disk()
    mask[80:90, 100:120] = True
    told = weakened(mask, kind, 3, 0)
    assert np.array_equal(told, weakened(mask, kind, 3, 0))
    if kind is SupportKind.mask:
        assert np.array_equal(told, mask)
    elif kind in (SupportKind.box, SupportKind.largest_box):
        boxes = np.zeros_like(mask)
        boxes[17:64, 32:79] = True
        boxes[80:90, 100:120] = kind is SupportKind.box
        assert np.array_equal(told, INSIDE * boxes)
    else:
        others = weakened(mask, kind, 4, 0), weakened(mask, kind, 3, 1), weakened(mask, kind, 3, 0, seed=1)
        assert not any(np.array_equal(told, other) for other in others) and set(np.unique(told)) == {OBJECT, OPEN}
        y, x = np.nonzero(told == OBJECT)
        assert mask[y, x].mean() > 0.6 and (len(y) > 60) == (kind is SupportKind.scribble)


def test_the_test_command_with_marks(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    settings = {"mask": (), "scribble": (SCRIBBLE,), "anew": (SCRIBBLE, "test.feature_mb=0")}
    found = {runs: results_of(command, checkpoint, runs, *of_run) for runs, of_run in settings.items()}
    masks, scribbles, anew = (one["tests"][0] for one in found.values())
    assert scribbles["episodes_sha256"] == masks["episodes_sha256"]
    assert scribbles["counts_sha256"] != masks["counts_sha256"]
    assert scribbles["counts_sha256"] == anew["counts_sha256"]  # kept features do not hide the supports' colours
    assert found["scribble"]["config"]["test"]["support"] == "scribble"
    assert found["mask"]["config_hash"] != found["scribble"]["config_hash"]


def test_masks_are_made_by_the_network_of_the_fold(
    command: Command, checkpoint: Path, pascal_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of PASCAL-5i, whose base classes it was trained on; other data take the one of all classes."""
    folds = set[int | str]()

    def asked(device: torch.device, fold: int | str) -> completion.CellNetwork:
        folds.add(fold)
        return trained_network(device, fold)

    trained_network = completion.trained_network
    monkeypatch.setattr(completion, "trained_network", asked)
    results_of(command, checkpoint, "own", "test.support=point")
    assert folds == {EVERY_FOLD}
    folds.clear()
    pascal = ("data=pascal5i", f"data.root={pascal_root}", f"data.splits_dir={pascal_root}/splits", "fold=2")
    results_of(command, checkpoint, "pascal", "test.support=point", *pascal)
    assert folds == {2}
    weights = [trained_network(torch.device("cpu"), fold).last.weight for fold in (0, 1, 2, 3, EVERY_FOLD)]
    assert all(not torch.equal(a, b) for a, b in combinations(weights, 2))


def results_of(command: Command, checkpoint: Path, runs: str, *settings: str) -> dict[str, Any]:
    done = command("mshnet-test", f"ckpt={checkpoint}", f"runs={runs}", "test.episodes=4", *settings, *TEST)
    assert done.code == 0, done.err
    (path,) = Path(runs).rglob("result.json")
    result: dict[str, Any] = json.loads(path.read_text())
    return result


SCRIBBLE = "test.support=scribble"
TEST = ("trainer.enable_progress_bar=false", "logger=none", "test.pictures=0")


def written(folder: Path, names: str = "ab") -> Path:
    folder.mkdir()
    for name in names:
        Image.fromarray(picture()).save(folder / f"{name}.png")
    return folder


def predicted(command: Command, folder: Path, out: str) -> tuple[dict[str, Any], np.ndarray, str]:
    """The record, the mask of the first query, and what was logged."""
    Image.fromarray(picture()).save("query.png")
    done = command("mshnet-predict", "ckpt=training-free", f"support={folder}", "query=query.png", f"out={out}")
    assert done.code == 0, done.err
    return (
        json.loads(Path(out, "predictions.json").read_text()),
        np.asarray(Image.open(f"{out}/query_mask.png")) > 0,
        done.err,
    )


def stamp(mask: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_labelme_shapes_of_every_type(command: Command, tmp_path: Path) -> None:
    shapes: dict[str, list[dict[str, Any]]] = {
        "a": [{"shape_type": "rectangle", "points": [BOX[:2], BOX[2:]]}],
        "b": [
            {"shape_type": "point", "points": [[55, 40]]},
            {"shape_type": "point", "points": [[5, 5]], "flags": {"negative": True}},
        ],
        "c": [{"shape_type": "line", "points": [[45, 30], [65, 50]]}],
        "d": [{"shape_type": "linestrip", "points": [[45, 30], [65, 50], [45, 50]]}],
        "e": [{"shape_type": "circle", "points": [[55, 40], [55, 63]]}],
        "f": [{"shape_type": "polygon", "points": [[31, 40], [55, 16], [79, 40], [55, 64]]}],
        "g": [{"shape_type": "mask", "points": [[0, 0], [WIDTH - 1, HEIGHT - 1]], "mask": stamp(disk())}],
    }
    folder = written(tmp_path / "labelme", "".join(shapes))
    for name, drawn in shapes.items():
        document = {"shapes": [{"label": "disk", **shape} for shape in drawn], "imagePath": f"{name}.png"}
        (folder / f"{name}.json").write_text(json.dumps(document))
    content, mask, logged = predicted(command, folder, "out")
    made = [support["made_of_marks"] for support in content["supports"]["disk"]]
    assert not content["left_out"] and made == [True] * 4 + [False] * 3 and iou(mask, disk()) > 0.7
    for support in content["supports"]["disk"]:
        assert 0.3 < support["share"] / disk().mean() < 2
        assert (
            f"{Path(support['image']).name} {support['share']:.1%}{', made' if support['made_of_marks'] else ''}" in logged
        )


def test_coco_with_boxes_alone(command: Command, tmp_path: Path) -> None:
    folder = written(tmp_path / "coco")
    boxed = {"bbox": [BOX[0], BOX[1], BOX[2] - BOX[0], BOX[3] - BOX[1]], "category_id": 1}
    rows = [{"id": 0, "image_id": 0, **boxed}, {"id": 1, "image_id": 1, "segmentation": [], **boxed}]
    rows.append({"id": 2, "image_id": 1, "bbox": [1, 1, 0, 5], "category_id": 1})
    images = [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate("ab")]
    (folder / "all.json").write_text(
        json.dumps({"images": images, "annotations": rows, "categories": [{"id": 1, "name": "disk"}]})
    )
    content, mask, _ = predicted(command, folder, "out")
    assert [support["made_of_marks"] for support in content["supports"]["disk"]] == [True, True]
    assert iou(mask, disk()) > 0.85 and "a box of width 0 and height 5" in content["left_out"][0]


def test_coco_with_boxes_beside_outlines(tmp_path: Path) -> None:
    """Of a class that has outlines they are used, and its boxes are named."""
    folder = written(tmp_path / "coco")
    outline = {"segmentation": [[20, 20, 90, 20, 90, 70, 20, 70]], "category_id": 1}
    rows = [{"id": i, "image_id": i, **one} for i, one in enumerate((outline, {"bbox": [20, 20, 70, 50], "category_id": 1}))]
    images = [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate("ab")]
    (folder / "all.json").write_text(
        json.dumps({"images": images, "annotations": rows, "categories": [{"id": 1, "name": "disk"}]})
    )
    supports = read_supports(folder)
    assert [support.file.name for support in supports.classes["disk"]] == ["a.png"]
    (said,) = supports.left_out
    assert "annotation 1 (image 1" in said and "a box without outline; other annotations of disk have outlines" in said


def test_a_json_of_marks(command: Command, tmp_path: Path) -> None:
    folder = written(tmp_path / "plain")
    marks: list[dict[str, Any]] = [
        {"image": "a.png", "label": "disk", "points": [[55, 40, 1], [5, 5, 0]]},
        {"image": "b.png", "label": "disk", "boxes": [BOX], "scribbles": [[[45, 30], [65, 50]]]},
        {"image": "b.png", "circles": [1]},
        {"image": "b.png"},
        {"image": "c.png", "points": [[1, 1]]},
        {"image": "a.png", "points": [[999, 1]]},
    ]
    (folder / "marks.json").write_text(json.dumps({"marks": marks}))
    content, mask, _ = predicted(command, folder, "out")
    assert len(content["supports"]["disk"]) == 2 and iou(mask, disk()) > 0.85
    expected = ("circles is none of", "marks nothing", "no image c.png", "outside of the image")
    assert len(content["left_out"]) == 4
    assert all(word in line for word, line in zip(expected, content["left_out"], strict=True))
    (folder / "marks.json").write_text(json.dumps({"marks": []}))
    assert read_annotations(folder / "marks.json").found == []
