"""Annotations of LabelMe and COCO: what is read of them, and ``mshnet-predict`` on them, which leaves them as they are."""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import Done
from mshnet_pl.data.io.annotations import read_annotations
from mshnet_pl.data.io.marks import INSIDE, OBJECT
from mshnet_pl.errors import DataError
from predict_files import draw
from predict_files import own as own
from predict_files import predict as predict


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
    found = {
        name: mask for name, image, mask, file, _ in outlines.found if file.samefile(tmp_path / "a.png") and image == file
    }
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
    (cat, _, cat_mask, *_), (dog, image, dog_mask, *_) = read_annotations(path).found
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
