"""Pictures as files, arrays and tensors: every way of storing the same pixels gives the same pixels, or says why not."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mshnet_pl.data.io.images import bits_of, frame_of, is_image, open_image, page_numbers, read_image
from mshnet_pl.data.io.masks import read_mask
from mshnet_pl.data.sources.folder import Folder
from mshnet_pl.errors import DataError

SHAPE = 5, 7


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    return np.rot90(pixels, -1) if orientation == 6 else pixels


def png(path: Path, pixels: np.ndarray, orientation: int) -> None:
    """Of 16 bits, which Pillow does not write in colours."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    exif = Image.Exif()
    exif[0x0112] = orientation
    height, width, channels = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels))
    chunks = (b"IHDR", head), (b"eXIf", exif.tobytes()[6:]), (b"IDAT", rows), (b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks))


def tiff(
    path: Path,
    pixels: np.ndarray,
    orientation: int,
    *,
    order: str = "<",
    planes: int = 1,
    packed: bool = False,
    extra: int = 2,
) -> None:
    """Of 8 or 16 bits, a strip or, with 2 ``planes``, one for each colour."""
    height, width, channels = pixels.shape
    kept = pixels.astype(pixels.dtype.newbyteorder(order))
    strips = [kept.tobytes()] if planes == 1 else [kept[..., i].tobytes() for i in range(channels)]
    strips = [zlib.compress(strip) if packed else strip for strip in strips]
    offsets = [8 + sum(map(len, strips[:i])) for i in range(len(strips))]
    tags: list[tuple[int, str, list[int]]] = [
        (256, "H", [width]), (257, "H", [height]), (258, "H", [8 * pixels.itemsize] * channels),
        (259, "H", [8 if packed else 1]), (262, "H", [1 if channels == 1 else 2]), (273, "I", offsets),
        (274, "H", [orientation]), (277, "H", [channels]), (278, "H", [height]), (279, "I", [*map(len, strips)]),
        (284, "H", [planes]), *([(338, "H", [extra])] if channels == 4 else []),
    ]  # fmt: skip
    body, entries = b"".join(strips), b""
    for tag, kind, values in tags:
        stored = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(stored) > 4:
            stored, body = struct.pack(f"{order}I", 8 + len(body)), body + stored
        entries += struct.pack(f"{order}HHI", tag, 3 if kind == "H" else 4, len(values)) + stored.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(body))
    path.write_bytes(head + body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4))


DEEP: dict[str, tuple[int, Callable[[Path, np.ndarray, int], None]]] = {
    "PNG": (3, png),
    "PNG with alpha": (4, png),
    "gray PNG with alpha": (2, png),
    "TIFF": (3, tiff),
    "TIFF, the other order": (3, lambda *to: tiff(*to, order=">")),
    "TIFF with alpha": (4, tiff),
    "TIFF with something else": (4, lambda *to: tiff(*to, extra=0)),
    "compressed TIFF": (3, lambda *to: tiff(*to, order=">", packed=True)),
    "TIFF of planes": (3, lambda *to: tiff(*to, planes=2)),
    "TIFF of planes, the other order": (4, lambda *to: tiff(*to, planes=2, order=">")),
}


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", DEEP)
def test_colours_of_16_bits_have_the_scale_of_gray_ones(tmp_path: Path, kind: str, orientation: int) -> None:
    channels, write = DEEP[kind]
    for bits in (8, 10, 12, 14, 16):
        values = np.random.default_rng(bits).integers(0, 2**bits, (*SHAPE, channels)).astype(np.uint16)
        values[0, 0] = 2**bits - 1
        if channels != 3:
            values[..., -1] = 65535
        write(tmp_path / "a", values, orientation)
        colours = np.repeat(values[..., :1], 3, 2) if channels == 2 else values[..., :3]
        for given in (8, 14, 16):
            scale = max(bits, given)
            expected = colours >> 8 if scale == 16 else np.round(colours * (255 / (2**scale - 1)))
            found = np.asarray(read_image(open_image(tmp_path / "a", bits=given), bits=given))
            assert np.array_equal(found, turned(expected, orientation)) and bits_of(tmp_path / "a") == bits
        assert frame_of(tmp_path / "a").turned == turned(values, orientation).shape[1::-1]


@pytest.mark.parametrize(
    ("channels", "how", "message"),
    [(3, {"planes": 2, "packed": True}, "side by side"), (4, {"extra": 1}, "save it without alpha")],
)
def test_dark_colours_whose_lower_bytes_cannot_be_had(tmp_path: Path, channels: int, how: Any, message: str) -> None:  # noqa: ANN401
    for part in ("images", "masks"):
        (tmp_path / "cat" / part).mkdir(parents=True)
    Image.fromarray(np.eye(*SHAPE) > 0).save(tmp_path / "cat" / "masks" / "a.png")
    values = np.full((*SHAPE, channels), 4000, np.uint16)
    values[..., 3:] = 65535
    tiff(tmp_path / "cat" / "images" / "a.tif", values, 1, **how)
    with pytest.raises(DataError, match=rf"a\.tif: dark colours of 16 bits .*{message}"):
        Folder(str(tmp_path)).check()
    values[..., :3] *= 16
    tiff(tmp_path / "cat" / "images" / "a.tif", values, 1, **how)
    Folder(str(tmp_path)).check()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_on_its_side(tmp_path: Path, channels: int, orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (*SHAPE, channels)).astype(np.uint8)
    pixels[0, 0], pixels[1] = 255, 0
    for packed in (False, True):
        tiff(tmp_path / f"{packed}.tif", pixels, orientation, packed=packed)
    plain, packed_one = (np.asarray(read_image(tmp_path / f"{packed}.tif")) for packed in (False, True))
    assert np.array_equal(plain, packed_one) and plain.shape[:2] == (SHAPE if orientation < 5 else SHAPE[::-1])
    frame = frame_of(tmp_path / "False.tif")
    assert frame.stored == SHAPE[::-1] and frame.turned == plain.shape[1::-1]
    assert np.array_equal(frame.turn(pixels[..., 0]), plain[..., 0])
    assert frame_of(open_image(tmp_path / "False.tif")).turned == frame.turned
    tiff(tmp_path / "mask.tif", 255 * (pixels[..., :1] > 99).astype(np.uint8), orientation)
    assert np.array_equal(read_mask(tmp_path / "mask.tif"), plain[..., 0] > 99)


PIXELS = np.random.default_rng(1).random((*SHAPE, 3)).astype(np.float32)
TENSOR = torch.from_numpy(PIXELS).movedim(2, 0)


@pytest.mark.parametrize(
    "tensor",
    [TENSOR.half(), TENSOR.bfloat16(), TENSOR.to_sparse(), TENSOR.clone().requires_grad_()],
    ids=["half", "bfloat16", "sparse", "with gradient"],
)
def test_tensors_of_every_kind(tensor: torch.Tensor) -> None:
    found = np.asarray(read_image(tensor)).astype(int)
    assert np.abs(found - 255 * PIXELS).max() < 2 and bits_of(tensor) == 8
    assert np.array_equal(read_mask(tensor[0]), tensor[0].detach().to_dense().float().numpy() > 0.5)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full(SHAPE, None), "values of type object; give"),
        (np.full(SHAPE, "a"), "values of type <U1; give"),
        (np.ones(SHAPE, complex), "values of type complex128; give"),
        (torch.ones(SHAPE, device="meta"), "a tensor of torch.float32: "),
        (Image.new("RGB", (0, 5)), r"shape \(5, 0, 3\)"),
        (Image.new("L", (5, 0)), r"shape \(0, 5\)"),
        (Path("~nouser-at-all/a.png"), "there is no user ~nouser-at-all; give another path"),
        ("a" * 300, "File name too long"),
    ],
)
def test_what_is_no_picture_is_a_message(image: Any, message: str) -> None:  # noqa: ANN401
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match=message):
            read(image)
    assert bits_of(image) == 8


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match=r"a\.png: a pipe or a device; give a file"):
            read(tmp_path / "a.png")
    assert page_numbers(tmp_path / "a.png") == [0] and not is_image(tmp_path / "a.png")


def test_gray_with_its_alpha_multiplied_in() -> None:
    gray = Image.fromarray(np.dstack([np.full(SHAPE, 200, np.uint8), np.full(SHAPE, 255, np.uint8)]))
    assert np.array_equal(np.asarray(read_image(gray.convert("La"))), np.full((*SHAPE, 3), 200))
