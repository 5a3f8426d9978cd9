"""``docs/formats.md``: what pictures and masks are read, tried through every door; every row of the rule."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from PIL.TiffImagePlugin import AppendingTiffWriter

from conftest import Command
from formats_page import SIZE, TABLES, cells, drawn, masked, pixels
from mshnet_pl import Segmenter
from mshnet_pl.app.session import Session, SessionFolder
from mshnet_pl.data.io.marks import Marks
from mshnet_pl.data.io.masks import read_mask
from mshnet_pl.data.sources.folder import Folder
from mshnet_pl.errors import DataError, UserError
from mshnet_pl.inference.supports import read_supports
from mshnet_pl.options import Subset

pytestmark = pytest.mark.usefixtures("own_cache")


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
    if row.startswith("animated"):
        path = folder / "a.gif"
        frames = [Image.fromarray(np.roll(pixels(), 3 * i, 1)) for i in range(3)]
        frames[0].save(path, save_all=True, append_images=frames[1:])
        return path
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


def through_session(folder: Path, picture: Path | None = None, mask: Path | None = None) -> np.ndarray:
    masked(folder / "made", picture, mask)
    session = Session(SessionFolder(folder / "session"))
    session.open(str(next((folder / "made" / "images").iterdir())))
    session.open_mask(str(next((folder / "made" / "masks").iterdir())))
    assert session.draft is not None
    return session.draft.strokes.object


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
