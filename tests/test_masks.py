"""Which pixels of a mask are the object: the same answer, or the same kind of message, through every door."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from mshnet_pl.app.session import Session, SessionFolder
from mshnet_pl.data.io.masks import doubt, read_mask
from mshnet_pl.data.sources.folder import Folder
from mshnet_pl.errors import DataError

SIZE = 96, 72


def disk() -> np.ndarray:
    image = Image.new("L", SIZE)
    ImageDraw.Draw(image).ellipse((22, 10, 60, 52), fill=1)
    return np.asarray(image).astype(bool)


OBJECT = disk()


def two(ground: object, thing: object, dtype: type = np.uint8) -> np.ndarray:
    """An array of two values or colours."""
    places = OBJECT if np.ndim(ground) == 0 else OBJECT[..., None]  # type: ignore[arg-type]
    return np.where(places, np.array(thing, dtype), np.array(ground, dtype)).astype(dtype)


def palette(colours: dict[int, tuple[int, int, int]], ground: int, thing: int, **info: object) -> Image.Image:
    image = Image.fromarray(two(ground, thing))
    entries = [(9, 9, 9)] * 256
    for index, colour in colours.items():
        entries[index] = colour
    image.putpalette([part for entry in entries for part in entry])
    image.info |= info
    return image


def reopened(image: Image.Image, form: str, **how: object) -> Image.Image:
    content = io.BytesIO()
    image.save(content, form, **how)
    return Image.open(content)


def gray(ground: int = 0, thing: int = 255) -> Image.Image:
    return Image.fromarray(two(ground, thing))


BLACK, WHITE, BROWN, BLUE = (0, 0, 0), (255, 255, 255), (192, 128, 0), (31, 119, 180)
CLEAR: dict[str, Callable[[], Image.Image]] = {
    "0 and 255": gray,
    "0 and 1": lambda: gray(0, 1),
    "0 and 7": lambda: gray(0, 7),
    "3 and 245": lambda: gray(3, 245),
    "1 bit": lambda: gray().convert("1"),
    "16 bits, 0 and 1": lambda: Image.fromarray(two(0, 1, np.uint16)),
    "16 bits, 0 and 65535": lambda: Image.fromarray(two(0, 65535, np.uint16)),
    "16 bits, 771 and 62965": lambda: Image.fromarray(two(771, 62965, np.uint16)),
    "32 bits": lambda: Image.fromarray(two(0, 70_000, np.int32)),
    "white first": lambda: palette({0: WHITE, 1: BLACK}, 1, 0),
    "black first": lambda: palette({0: BLACK, 1: WHITE}, 0, 1),
    "black at 200": lambda: palette({200: BLACK, 4: BROWN}, 200, 4),
    "VOC's colours": lambda: palette({0: BLACK, 15: (192, 128, 128)}, 0, 15),
    "transparent black": lambda: palette({0: BLACK, 1: BROWN}, 0, 1, transparency=0),
    "brown on black": lambda: Image.fromarray(two(BLACK, BROWN)),
    "white on near black": lambda: Image.fromarray(two((2, 0, 5), WHITE)),
    "RGBA": lambda: gray().convert("RGBA"),
    "CMYK": lambda: gray().convert("RGB").convert("CMYK"),
    "alpha of black": lambda: Image.fromarray(two((0, 0, 0, 0), (0, 0, 0, 255))),
    "alpha of white": lambda: Image.fromarray(two((255, 255, 255, 0), (255, 255, 255, 255))),
    "black on clear white": lambda: Image.fromarray(two((255, 255, 255, 0), (0, 0, 0, 255))),
    "brown on clear": lambda: Image.fromarray(two((0, 0, 0, 0), (192, 128, 0, 200))),
    "gray with alpha": lambda: Image.fromarray(two((90, 0), (90, 255))),
    "a cut-out": lambda: Image.fromarray(np.dstack([np.indices((72, 96)).sum(0).astype(np.uint8)] * 3 + [two(0, 255)])),
}
SOFT: dict[str, Callable[[], Image.Image]] = {
    "JPEG": lambda: reopened(gray(), "JPEG", quality=75),
    "JPEG in colours": lambda: reopened(gray().convert("RGB"), "JPEG", quality=50),
    "was JPEG": lambda: Image.fromarray(np.asarray(reopened(gray(), "JPEG", quality=60))),
    "WebP": lambda: reopened(gray().convert("RGB"), "WEBP", quality=50),
    "blurred": lambda: gray().filter(ImageFilter.GaussianBlur(1.2)),
    "matting": lambda: gray(4, 245).filter(ImageFilter.GaussianBlur(1)),
    "16 bits": lambda: Image.fromarray(np.asarray(gray().filter(ImageFilter.GaussianBlur(1))).astype(np.uint16) * 257),
    "soft alpha": lambda: Image.merge("LA", [Image.new("L", SIZE), gray().filter(ImageFilter.GaussianBlur(1))]),
}


def labels(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)[np.indices((72, 96))[1] * len(values) // 96]


UNCLEAR: dict[str, tuple[Callable[[], Image.Image], str]] = {
    "a label map": (lambda: Image.fromarray(labels(0, 3, 7)), r"0 \(2304 pixels\), 3 \(2304\), 7 \(2304\); .*value=VALUE"),
    "VOC in gray": (lambda: Image.fromarray(labels(0, 15, 255)), r"15 \(2304\), 255 \(2304\)"),
    "train ids": (lambda: Image.fromarray(labels(*range(19), 255)), r"and 8 more; .*value=VALUE"),
    "many classes": (
        lambda: Image.fromarray(
            np.where(labels(0, 1, 1, 1), labels(0, *range(60, 160, 12), 250, 250, 250, 250, 250), 0).astype(np.uint8)
        ),
        "more; .*value=VALUE|value=VALUE",
    ),
    "1 and 2": (lambda: gray(1, 2), r"1 \(\d+ pixels\), 2 \(\d+\)"),
    "a class and unknown": (lambda: gray(15, 255), r"15 \(\d+ pixels\), 255"),
    "1 and unknown": (lambda: gray(1, 255), r"1 \(\d+ pixels\), 255"),
    "two grays": (lambda: gray(100, 200), r"100 \(\d+ pixels\), 200"),
    "one gray": (lambda: gray(7, 7), r"7 \(6912 pixels\); "),
    "nothing": (lambda: gray(0, 0), r"no pixel of an object, only 0 \(6912 pixels\)"),
    "ramp": (lambda: Image.fromarray(labels(*range(0, 256, 8))), r"and 20 more; "),
    "red and green": (lambda: Image.fromarray(two((255, 0, 0), (0, 255, 0))), r"coloured mask, #00ff00 .*one value a class"),
    "brown on white": (lambda: Image.fromarray(two(WHITE, BROWN)), r"#c08000 \(\d+ pixels\), #ffffff"),
    "a palette without black": (lambda: palette({0: BLUE, 1: BROWN}, 0, 1), r"0 #1f77b4 \(\d+ pixels\), 1 #c08000"),
    "two of one colour": (lambda: palette({0: BLUE, 1: BLUE}, 0, 1), r"0 #1f77b4 \(\d+ pixels\), 1 #1f77b4"),
    "alpha against colours": (
        lambda: Image.fromarray(np.dstack([two(0, 255), (labels(0, 1) * 255).astype(np.uint8)])),
        "show different objects",
    ),
}


def stored(image: Image.Image, folder: Path) -> Path:
    """The mask as ``a`` in a folder of its own, in a format that keeps its kind."""
    folder.mkdir(parents=True)
    if image.format == "JPEG":
        image.save(folder / "a.jpg", quality="keep")
        return folder / "a.jpg"
    path = folder / ("a.tif" if image.mode in ("I", "CMYK") else "a.png")
    image.save(path)
    return path


def through_file(image: Image.Image, folder: Path) -> np.ndarray:
    return read_mask(stored(image, folder / "masks"))


def through_folder(image: Image.Image, folder: Path) -> np.ndarray:
    stored(image, folder / "own" / "cat" / "masks")
    stored(Image.new("RGB", SIZE), folder / "own" / "cat" / "images")
    source = Folder(str(folder / "own"))
    source.check()
    return source.mask("cat/images/a.png", [0]) == 1


def through_page(image: Image.Image, folder: Path) -> np.ndarray:
    session = Session(SessionFolder(folder / "session"))
    session.open(str(stored(Image.new("RGB", SIZE), folder / "picture")))
    session.open_mask(str(stored(image, folder / "mask")))
    assert session.draft is not None
    return session.draft.strokes.object


DOORS: dict[str, Callable[[Image.Image, Path], np.ndarray]] = {
    "predict": through_file,
    "folder": through_folder,
    "page": through_page,
    "Segmenter": lambda image, _: read_mask(image),
}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", CLEAR)
def test_two_colours_are_clear(kind: str, door: str, tmp_path: Path) -> None:
    assert np.array_equal(DOORS[door](CLEAR[kind](), tmp_path), OBJECT)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", SOFT)
def test_soft_masks_are_cut_at_half(kind: str, door: str, tmp_path: Path) -> None:
    found = DOORS[door](SOFT[kind](), tmp_path)
    assert (found & OBJECT).sum() / (found | OBJECT).sum() > 0.95


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", UNCLEAR)
def test_everything_else_is_a_message_with_the_values(kind: str, door: str, tmp_path: Path) -> None:
    image, message = UNCLEAR[kind]
    with pytest.raises(DataError, match=re.compile(message, re.DOTALL)):
        DOORS[door](image(), tmp_path)


ARRAYS = [
        OBJECT, two(0.0, 1.0, np.float32), two(0.1, 0.9, np.float64), two(-1, 1, np.int8), two(-1.0, 1.0, np.float32),
        two(0, 255.0, np.float32), two(0, 7.0, np.float64), two(0, 1, np.int64), torch.from_numpy(OBJECT),
        torch.from_numpy(two(0, 1))[None], np.repeat(two(0, 255)[..., None], 3, axis=2),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(ARRAYS)))
def test_arrays(number: int) -> None:
    assert np.array_equal(read_mask(ARRAYS[number]), OBJECT)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((9, 9), np.nan), "nan"),
        (np.full((9, 9), 0.4), "no pixel above 0.5"),
        (np.linspace(-1, 1, 81).reshape(9, 9), "and 69 more"),
        (np.zeros((2, 3, 9, 9)), "of several probabilities, one"),
        (np.zeros((9, 9, 5)), r"shape \(9, 9, 5\)"),
        (np.zeros((0, 9)), r"shape \(0, 9\)"),
        (np.zeros((9, 9), bool), r"only 0 \(81 pixels\)"),
    ],
)
def test_arrays_that_are_no_mask(mask: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_mask(mask)


def test_a_value_is_looked_for_in_the_stored_numbers() -> None:
    indexed = palette({0: WHITE, 1: BLACK}, 1, 0)
    assert np.array_equal(read_mask(indexed, value=1), ~OBJECT)
    assert np.array_equal(read_mask(labels(0, 3, 7), value=3), labels(0, 1, 0) == 1)
    with pytest.raises(DataError, match=r"no pixel of value 4, only 0 \(2304 pixels\), 3 \(2304\)"):
        read_mask(labels(0, 3, 7), value=4)
    with pytest.raises(DataError, match="one value a class"):
        read_mask(two(BLACK, BROWN), value=1)


def test_unknown_pixels_are_no_object() -> None:
    """0, 1 and 255 in gray and with VOC's palette."""
    values = labels(0, 1, 255)
    indexed = Image.fromarray(values)
    indexed.putpalette([0, 0, 0, 128, 0, 0] + [224, 224, 192] * 254)
    for mask in (values, indexed):
        assert np.array_equal(read_mask(mask), values == 1)


def test_doubtful_areas() -> None:
    mask = np.zeros((100, 100), bool)
    mask[:2] = True
    assert not doubt(mask) and "98.0% of the picture" in doubt(~mask)
    assert "0.010% of the picture" in doubt(np.eye(1, 10_000, dtype=bool).reshape(100, 100))
