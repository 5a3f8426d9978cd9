"""``docs/formats.md``: every cell that says yes or no, tried through its door; every row of the lists and of the rule."""

import base64
import io
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from PIL.TiffImagePlugin import AppendingTiffWriter
from pycocotools import mask as rle_tools

from coco_tree import CATEGORY_IDS, draw_coco
from conftest import ROOT, Command
from mshnet_pl import Segmenter
from mshnet_pl.app.session import Session, SessionFolder
from mshnet_pl.data.io.marks import INSIDE, OBJECT, Marks
from mshnet_pl.data.io.masks import read_mask
from mshnet_pl.data.sources.coco20i import Coco20i
from mshnet_pl.data.sources.folder import Folder
from mshnet_pl.data.sources.fss1000 import Fss1000
from mshnet_pl.data.sources.pascal5i import Pascal5i
from mshnet_pl.errors import DataError, UserError
from mshnet_pl.inference.supports import read_supports
from mshnet_pl.options import Subset

SIZE = (40, 30)


def tables() -> dict[str, list[list[str]]]:
    """The tables of the page by their heading and number, without the line below the header."""
    found: dict[str, list[list[str]]] = {}
    heading, before = "", ""
    for line in (ROOT / "docs" / "formats.md").read_text().splitlines():
        if line.startswith("## "):
            heading = line[3:]
        if line.startswith("|") and not line.startswith("|---"):
            key = heading if before.startswith("|") else f"{heading} {sum(k.startswith(heading) for k in found)}"
            name = [*found][-1] if before.startswith("|") else key
            found.setdefault(name, []).append([cell.strip() for cell in line.strip("|").split("|")])
        before = line
    return found


TABLES = tables()


def cells(table: str) -> list[Any]:
    """Row, column, and whether the cell says yes."""
    header, *rows = TABLES[table]
    found = []
    for row in rows:
        for column, cell in zip(header[1:], row[1:], strict=True):
            assert re.match("(yes|no)\\b", cell), cell
            found.append(pytest.param(row[0], column, cell.startswith("yes"), id=f"{row[0]}-{column}"))
    return found


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)


def drawn() -> np.ndarray:
    mask = np.zeros(SIZE[::-1], bool)
    mask[5:20, 8:30] = True
    return mask


def tiff(path: Path, kind: int) -> None:
    with AppendingTiffWriter(str(path), True) as writer:
        for shrunk, said in ((1, 0), (2, kind)):
            Image.fromarray(pixels()[::shrunk, ::shrunk]).save(writer, "TIFF", tiffinfo={254: said})
            writer.newFrame()


def picture_file(row: str, folder: Path) -> Path | None:
    """A picture of the kind that a row names; None for what is no file."""
    ends = {"JPEG": "jpg", "WebP": "webp", "JPEG 2000": "jp2", "HEIC, DICOM, EPS, SVG": "eps"}
    if row.startswith("Pillow"):
        return None
    end = "tif" if row.startswith("TIFF") else "png" if "16 bits" in row else ends.get(row, row.lower())
    path = folder / f"a.{'json' if 'JSON' in row else end}"
    if "several pages" in row or "overviews" in row:
        tiff(path, 1 if "overviews" in row else 0)
    elif "16 bits" in row:
        Image.fromarray(pixels()[..., 0].astype(np.uint16) * 200).save(path)
    elif "JSON" in row:
        content = io.BytesIO()
        Image.fromarray(pixels()).save(content, "PNG")
        shape = {"label": "object", "shape_type": "rectangle", "points": [[8, 5], [29, 19]]}
        inside = base64.b64encode(content.getvalue()).decode()
        path.write_text(json.dumps({"shapes": [shape], "imagePath": "gone.png", "imageData": inside}))
    else:
        Image.fromarray(pixels()).save(path)
    return path


def through_predict(path: Path, command: Command, checkpoint: Path, support: str) -> None:
    settings = f"ckpt={checkpoint}", f"support={support}", f"query={path.parent}", "out=out"
    done = command("mshnet-predict", *settings)
    if done.code:
        raise DataError(done.err)


def masked(folder: Path, picture: Path | None, mask: Path | None) -> None:
    """``images`` and ``masks`` of a picture and a mask; a plain one where it is None."""
    for part, given, plain in (("images", picture, pixels()), ("masks", mask, 255 * drawn().astype(np.uint8))):
        (folder / part).mkdir(parents=True)
        if given is None:
            Image.fromarray(plain).save(folder / part / "a.png")
        else:
            (folder / part / f"a{given.suffix}").write_bytes(given.read_bytes())


def through_session(folder: Path, picture: Path | None = None, mask: Path | None = None) -> np.ndarray:
    masked(folder / "made", picture, mask)
    session = Session(SessionFolder(folder / "session"))
    session.open(str(next((folder / "made" / "images").iterdir())))
    session.open_mask(str(next((folder / "made" / "masks").iterdir())))
    assert session.draft is not None
    return session.draft.strokes.object


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(("row", "column", "read"), cells("Pictures 0"))
def test_pictures(row: str, column: str, read: bool, tmp_path: Path, command: Command, checkpoint: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    path = picture_file(row, folder)

    def query() -> None:
        assert path is not None
        masked(tmp_path / "support", None, None)
        through_predict(path, command, checkpoint, "support")

    def support() -> None:
        assert path is not None
        if path.suffix == ".json":
            supports = read_supports(folder)
        else:
            masked(tmp_path / "support", path, None)
            supports = read_supports(tmp_path / "support")
        for shown in supports.classes.values():
            segmenter = Segmenter.from_checkpoint(checkpoint)
            made = [segmenter.complete([s.image], [s.mask])[0] if isinstance(s.mask, Marks) else s.mask for s in shown]
            segmenter.fit([s.image for s in shown], made)

    def segmenter() -> None:
        fitted = Segmenter.from_checkpoint(checkpoint).fit(pixels(), drawn())
        given: list[Any] = (
            [path] if path else [Image.fromarray(pixels()), pixels(), torch.from_numpy(pixels()).movedim(2, 0)]
        )
        assert [one.shape for one in fitted.predict(given)] == [SIZE[::-1]] * len(given)

    def own() -> None:
        masked(tmp_path / "own" / "cat", path, None)
        source = Folder(str(tmp_path / "own"))
        source.check()
        assert all(source.image(name).size == SIZE for subset in Subset for name, _ in source.pairs(subset))

    doors: dict[str, Callable[[], object]] = {
        "`mshnet-predict` query": query,
        "`mshnet-predict` support": support,
        "`mshnet-app`": lambda: through_session(tmp_path, path),
        "`Segmenter`": segmenter,
        "`data=folder`": own,
    }
    if read:
        doors[column]()
    elif path is not None:
        with pytest.raises(UserError):
            doors[column]()
    else:
        assert column != "`Segmenter`"  # the others are given files


def mask_of(row: str) -> Image.Image:
    mask = drawn()
    gray = 255 * mask.astype(np.uint8)
    if row.startswith("black and white"):
        image = Image.fromarray(1 - mask.astype(np.uint8))
        image.putpalette([255, 255, 255] + [0, 0, 0] * 255)
        return image
    if row.startswith("one colour"):
        return Image.fromarray(mask[..., None] * np.array([192, 128, 0], np.uint8))
    if row == "alpha":
        return Image.fromarray(np.dstack([np.zeros_like(gray), gray]))
    if "16 bits" in row:
        return Image.fromarray(mask.astype(np.uint16) * 65535)
    if row.startswith("JPEG"):
        return Image.fromarray(gray).filter(ImageFilter.GaussianBlur(0.8))
    if row.startswith("probabilities"):
        return Image.fromarray(np.where(mask, 0.8, 0.3).astype(np.float32))
    assert row.startswith("label map"), row
    labels = np.full(SIZE[::-1], 9, np.uint8)
    labels[:, 35:] = 0
    labels[mask] = 4
    return Image.fromarray(labels)


@pytest.mark.parametrize(("row", "column", "read"), cells("Masks 1"))
def test_masks(row: str, column: str, read: bool, tmp_path: Path) -> None:
    if row.startswith("array"):
        if read:
            assert np.array_equal(read_mask(drawn()), drawn()) and column == "`Segmenter`"
        return
    image = mask_of(row)
    path = tmp_path / ("a.tif" if image.mode == "F" else "a.jpg" if row.startswith("JPEG") else "a.png")
    image.save(path)
    value = 4 if "with the" in row and column != "`mshnet-app`" else None

    def through_folder() -> np.ndarray:
        masked(tmp_path / "own" / "cat", None, path)
        source = Folder(str(tmp_path / "own"), mask_value=value)
        source.check()
        return source.mask("cat/images/a.png", [0]) == 1

    doors: dict[str, Callable[[], np.ndarray]] = {
        "`mshnet-predict`": lambda: read_mask(path, value),
        "`Segmenter`": lambda: read_mask(Image.open(path), value),
        "`mshnet-app`": lambda: through_session(tmp_path, None, path),
        "`data=folder`": through_folder,
    }
    if read:
        found = doors[column]()
        assert (found & drawn()).sum() / (found | drawn()).sum() > 0.9
    else:
        with pytest.raises(DataError, match=r"the values are 0 \(\d+ pixels\), 4 "):
            doors[column]()


RULE: dict[str, tuple[Callable[[], Any], ...]] = {
    "0 and one other value": (
        lambda: np.where(drawn(), np.uint8(9), np.uint8(0)), drawn, lambda: np.where(drawn(), np.int8(1), np.int8(-1)),
    ),
    "two values": (lambda: np.where(drawn(), np.uint8(245), np.uint8(3)),),
    "a palette": (lambda: mask_of("black and white"),),
    "one colour": (lambda: mask_of("one colour"),),
    "an alpha": (lambda: mask_of("alpha"), lambda: Image.fromarray(np.dstack([pixels(), 255 * drawn().astype(np.uint8)]))),
    "0, 1 and 255": (lambda: np.where(drawn(), np.uint8(1), np.where(np.eye(*SIZE[::-1]) > 0, 255, 0)).astype(np.uint8),),
    "floating-point": (lambda: np.where(drawn(), 0.7, 0.2),),
    "many grays": (lambda: Image.fromarray(drawn()).convert("L").filter(ImageFilter.GaussianBlur(0.8)),),
}  # fmt: skip
REFUSED: tuple[Callable[[], Any], ...] = (
    lambda: mask_of("label map"),
    lambda: np.where(drawn()[..., None], [255, 0, 0], [0, 255, 0]).astype(np.uint8),
    lambda: np.where(drawn(), np.uint8(255), np.uint8(7)),
)


@pytest.mark.parametrize("row", [row[0] for row in TABLES["Masks 0"][1:]])
def test_the_rule_for_masks(row: str) -> None:
    if row.startswith("anything else"):
        for make in REFUSED:
            with pytest.raises(DataError, match=r"\(\d+ pixels\)"):
                read_mask(make())
        return
    (kinds,) = (kinds for start, kinds in RULE.items() if row.startswith(start))
    for make in kinds:
        found = read_mask(make())
        assert (found & drawn()).sum() / (found | drawn()).sum() > 0.9


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
