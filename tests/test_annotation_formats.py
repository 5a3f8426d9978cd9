"""``docs/formats.md``: what annotations are read, tried through both doors; every row of the lists."""

import base64
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle_tools

from coco_tree import CATEGORY_IDS, draw_coco
from formats_page import SIZE, TABLES, cells, drawn, masked, pixels
from mshnet_pl.data.io.marks import INSIDE, OBJECT, Marks
from mshnet_pl.data.sources.coco20i import Coco20i
from mshnet_pl.data.sources.folder import Folder
from mshnet_pl.data.sources.fss1000 import Fss1000
from mshnet_pl.data.sources.pascal5i import Pascal5i
from mshnet_pl.errors import DataError
from mshnet_pl.inference.supports import read_supports
from mshnet_pl.options import Subset

pytestmark = pytest.mark.usefixtures("own_cache")


BOX = [8.0, 5.0, 30.0, 5.0, 30.0, 20.0, 8.0, 20.0]


def segmentations(row: str) -> list[dict[str, Any]]:
    if "polygons" in row:
        return [{"segmentation": [BOX]}]
    if "run lengths" in row:
        flat = drawn().ravel(order="F")
        runs = np.diff([0, *np.flatnonzero(np.diff(flat, prepend=False)), flat.size]).tolist()
        packed = rle_tools.encode(np.asfortranarray(drawn().astype(np.uint8)))
        size = [*SIZE[::-1]]
        return [{"segmentation": {"size": size, "counts": c}} for c in (runs, packed["counts"].decode())]
    if "boxes of a class" in row:
        return [{"segmentation": [], "bbox": [8, 5, 22, 15]}]
    return [{"segmentation": [BOX], "iscrowd": 1}, {"segmentation": []}, {"segmentation": [[1, 2, 3, 4]]}]


def shapes(row: str) -> list[dict[str, Any]]:
    corners = [[8, 5], [29, 5], [29, 19], [8, 19]]
    if "marks" in row:
        return [
            {"shape_type": "rectangle", "points": corners[::2]}, {"shape_type": "rectangle", "points": corners},
            {"shape_type": "rotation", "points": corners}, {"shape_type": "point", "points": corners[:1]},
            {"shape_type": "points", "points": corners}, {"shape_type": "line", "points": corners[:2]},
            {"shape_type": "linestrip", "points": corners},
        ]  # fmt: skip
    stamp = io.BytesIO()
    Image.fromarray(np.ones((15, 22), bool)).save(stamp, "PNG")
    mask = base64.b64encode(stamp.getvalue()).decode()
    return [
        {"shape_type": "polygon", "points": corners}, {"shape_type": "circle", "points": [[19, 12], [19, 20]]},
        {"shape_type": "mask", "points": corners[::2], "mask": mask},
    ]  # fmt: skip


def share(shown: Path | np.ndarray | Marks) -> float:
    """Of the picture that a mask or marks cover."""
    assert not isinstance(shown, Path)
    if isinstance(shown, Marks):
        told = shown.told()
        return float(np.mean((told == OBJECT) | (told == INSIDE)))
    return float(np.mean(shown))


def areas_in_predict(row: str, folder: Path) -> list[float]:
    """The shares that each annotation alone outlines; a plain one is beside it."""
    found = []
    if "JSON of marks" in row:
        Image.fromarray(pixels()).save(folder / "a.png")
        (folder / "marks.json").write_text(json.dumps({"marks": [{"image": "a.png", "boxes": [[8, 5, 29, 19]]}]}))
        return [share(support.mask) for support in read_supports(folder).classes["object"]]
    for number, one in enumerate(shapes(row) if "LabelMe" in row else segmentations(row)):
        place = folder / str(number)
        place.mkdir()
        for name in ("a", "b"):
            Image.fromarray(pixels()).save(place / f"{name}.png")
        if "LabelMe" in row:
            plain = {"shape_type": "polygon", "points": [[8, 5], [29, 5], [29, 19], [8, 19]]}
            for name, shape in (("a", one), ("b", plain)):
                document = {"shapes": [{"label": "cat", **shape}], "imagePath": f"{name}.png"}
                (place / f"{name}.json").write_text(json.dumps(document))
        else:
            images = [{"id": i, "file_name": f"{name}.png"} for i, name in enumerate("ab")]
            plain = one if "boxes of a class" in row else {"segmentation": [BOX]}
            rows = [{"image_id": i, "id": i, "category_id": 1, **r} for i, r in enumerate((one, plain))]
            document = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "cat"}]}
            (place / "all.json").write_text(json.dumps(document))
        supports = read_supports(place)
        shares = {s.file.name: share(s.mask) for s in supports.classes["cat"]}
        assert "b.png" in shares and bool(supports.left_out) == ("a.png" not in shares)
        found.append(shares.get("a.png", 0.0))
    return found


def areas_in_coco(row: str, folder: Path) -> list[float]:
    found = []
    for number, one in enumerate(segmentations(row)):
        root = draw_coco(folder / str(number), images=1)
        path = root / "annotations" / "instances_train2014.json"
        document = json.loads(path.read_text())
        (first, *_), width, height = document["images"], *SIZE
        first |= {"width": width, "height": height}
        row_ = {"id": 1, "image_id": first["id"], "category_id": CATEGORY_IDS[0], "iscrowd": 0, **one}
        document["annotations"] = [row_]
        path.write_text(json.dumps(document))
        try:
            source = Coco20i(str(root))
            source.check()
        except DataError as error:
            assert "annotation 1" in str(error)
            found.append(0.0)
            continue
        found.append(float(source.mask(f"train2014/{first['file_name']}", [0]).mean()))
    return found


@pytest.mark.parametrize(("row", "column", "read"), cells("Annotations 0"))
def test_annotations(row: str, column: str, read: bool, tmp_path: Path) -> None:
    if ("LabelMe" in row or "JSON of marks" in row) and "coco" in column:
        assert not read  # it is given the folder of COCO alone
        return
    shares = (areas_in_predict if "predict" in column else areas_in_coco)(row, tmp_path)
    for found in shares:
        assert (0 if "marks" in row else 0.15) < found < 0.4 if read else found == 0


@pytest.mark.parametrize("row", [row[0] for row in TABLES["Lists 0"][1:]])
def test_lists(row: str, tmp_path: Path, pascal_root: Path) -> None:
    if "CSV or JSON" in row:
        masked(tmp_path / "cat", None, None)
        entry = {"image": "cat/images/a.png", "mask": "cat/masks/a.png", "class": "cat", "split": "val", "value": "255"}
        (tmp_path / "a.csv").write_text(f"{','.join(entry)}\n{','.join(entry.values())}\n")
        (tmp_path / "a.json").write_text(json.dumps([entry]))
        for name in ("a.csv", "a.json"):
            assert Folder(manifest=str(tmp_path / name)).pairs(Subset.VAL) == [("cat/images/a.png", 0)]
    elif "pkl" in row:
        root = draw_coco(tmp_path / "coco", images=1)
        for subset in ("trn", "val"):
            (root / "splits" / subset).mkdir(parents=True)
            (root / "splits" / subset / "fold0.pkl").write_bytes(pickle.dumps({c: [] for c in range(80)}))
        assert Coco20i(str(root), str(root / "splits")).splits == "published"
    elif "fold{0..3}.txt" in row:
        source = Pascal5i(str(pascal_root), str(pascal_root / "splits"))
        source.check()
        assert len(source.pairs(Subset.VAL)) == 60
    else:
        assert row == "`trn.txt`, `val.txt`, `test.txt`"
        for part, name in (("trn", "ant"), ("val", "bus"), ("test", "cup")):
            (tmp_path / f"{part}.txt").write_text(f"{name}\n")
        assert Fss1000(str(tmp_path), str(tmp_path)).classes == ("ant", "bus", "cup")
