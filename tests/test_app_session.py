"""``mshnet-app`` without a browser: what a session keeps and refuses, strokes, levels, and settings."""

import math
import socket
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from app_pictures import SOURCE, SUPPORT
from conftest import Command
from mshnet_pl import Segmenter
from mshnet_pl.app.files import SessionFolder
from mshnet_pl.app.levels import Levels
from mshnet_pl.app.pictures import BRUSH, NOT_IT, Strokes, check, painted
from mshnet_pl.app.session import Session, _box
from mshnet_pl.errors import DataError
from mshnet_pl.inference.labels import to_labels
from own_pictures import big_png


def test_a_session_keeps_what_is_painted(tmp_path: Path) -> None:
    path, session = tmp_path / "picture.png", Session(SessionFolder(tmp_path / "session"))
    Image.new("RGB", (2000, 500)).save(path)
    with pytest.raises(DataError, match="Choose the picture first"):
        session.open_mask(str(path))
    for _ in range(10):
        session.open(str(path))
        session.paint(Strokes(*np.broadcast_to([[[True]], [[False]]], (2, 256, 1024))))
    assert [shot.image.size for shot in session.supports()] == [(1024, 256)] * 10
    with pytest.raises(DataError, match="10 pictures of the object are enough"):
        session.open(str(path))
    session.wipe()
    session.open(str(path))
    with pytest.raises(DataError, match="The mask is empty"):
        session.supports()
    session.edit(0)
    assert len(session.supports()) == 9
    Image.fromarray(np.eye(300, dtype=np.uint8)).save(path)
    with pytest.raises(DataError, match=r"picture\.png has 300 x 300 pixels, but its picture 2000 x 500"):
        session.open_mask(str(path))
    for _ in range(9):
        session.remove()
    with pytest.raises(DataError, match="Show the object first"):
        session.supports()


def test_files_that_bring_the_decoder_to_raise_anything(tmp_path: Path) -> None:
    huge, damaged = tmp_path / "huge.png", tmp_path / "damaged.tif"
    big_png(huge, 25_000, 20_000)
    for read in (check, lambda path: painted([path], (6, 4))):
        with pytest.raises(DataError, match=r"huge\.png is too large; give an image of at most"):
            read(str(huge))
    Image.new("RGBA", (6, 4)).save(damaged)
    content = damaged.read_bytes()
    offsets, text = struct.pack("<HH", 273, 4), struct.pack("<HH", 273, 2)  # StripOffsets of LONG, of ASCII
    assert content.count(offsets) == 1
    damaged.write_bytes(content.replace(offsets, text))
    with pytest.raises(DataError, match=r"damaged\.tif is no layer of strokes"):
        painted([str(damaged)], (6, 4))


def test_layers_of_any_size_become_strokes(tmp_path: Path) -> None:
    """Each in the nearer of the two colours; a later layer covers an earlier one."""
    first, second = np.zeros((2, 4, 6, 4), np.uint8)
    first[1, 2], second[3, 5], first[0, 0], first[0, 1], second[0, 1] = (
        (*BRUSH, 1), (250, 130, 20, 255), (*NOT_IT, 90), (*NOT_IT, 255), (*BRUSH, 255),
    )  # fmt: skip
    paths = [str(tmp_path / f"{number}.png") for number in range(3)]
    for path, layer in zip(paths, (first, second), strict=False):
        Image.fromarray(layer).save(path)
    found = painted(paths[:2], (6, 4))
    assert [np.argwhere(part).tolist() for part in found] == [[[0, 1], [1, 2], [3, 5]], [[0, 0]]]
    found.layer().save(paths[2])
    again = painted(paths[2:], (12, 8))
    assert all(np.array_equal(a, b.repeat(2, 0).repeat(2, 1)) for a, b in zip(again, found, strict=True))


def test_a_stroke_from_corner_to_corner_is_a_box() -> None:
    """Whatever the brush; a dot or an area is the box around it."""
    for radius in (1, 6, 15):
        canvas = Image.new("1", (200, 120))
        draw = ImageDraw.Draw(canvas)
        for t in np.linspace(0, 1, 300):
            x, y = 30 + 110 * t, 25 + 70 * t
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
        top, side = 25 - radius, 30 - radius
        stroke = np.asarray(canvas)[top : 96 + radius, side : 141 + radius]
        assert np.allclose(_box(stroke, side, top), (30, 25, 140, 95), atol=1.5)
    assert _box(np.ones((9, 9), bool), 3, 4) == (3, 4, 11, 12)


def test_queries_are_limited_together_and_the_good_ones_are_segmented(checkpoint: Path, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("good.png", "cut.png", "large.png")]
    SOURCE.image(SUPPORT).save(paths[0])
    paths[1].write_bytes(paths[0].read_bytes()[:5000])
    Image.new("L", (6300, 6300)).save(paths[2])
    session, segmenter = Session(SessionFolder(tmp_path / "session")), Segmenter.from_checkpoint(checkpoint)
    session.example([])
    with pytest.raises(DataError, match=r"\Acut.png: .*truncated"):
        session.segment(segmenter, [str(path) for path in paths[:2]])
    assert [found.name for found in session.found] == ["good"]
    with pytest.raises(DataError, match="at most 40 megapixels together"):
        session.segment(segmenter, [str(paths[2])] * 2)
    with pytest.raises(DataError, match="at most 20 pictures"):
        session.segment(segmenter, [str(paths[0])] * 21)
    with pytest.raises(DataError, match=r"\Acut.png"):
        session.segment(segmenter, [str(paths[1])])
    assert session.found == []  # what was found in other pictures is not shown for these


def test_levels_hold_the_mask_of_every_threshold_exactly() -> None:
    margins = torch.randn(300, 70, generator=torch.manual_seed(0)) * 3
    least = torch.tensor([math.log(step / (100 - step)) for step in range(1, 100)])
    margins[0, :70] = least[:70]  # a margin that equals a threshold's does not exceed it
    levels = Levels.of(margins)
    for step in range(1, 100):
        assert np.array_equal(levels.mask(step / 100), to_labels(margins[None], step / 100) == 1)
    for threshold in (0, 1, 0.001, 0.996, float("nan"), "0.5", None):
        with pytest.raises(DataError, match=r"give a number from 0\.01 to 0\.99"):
            levels.mask(threshold)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["ckpt=training"],
            "ckpt=training: there is no such file or folder",
        ),
        (["ckpt=none.ckpt"], "ckpt=none.ckpt: no such file"),
        (["ckpt=none.ckpt", "prot=1"], "did you mean port=...?"),
        (["ckpt=none.ckpt", "port=x"], "port=x: give a whole number from 1 to 65535"),
        (["ckpt=none.ckpt", "max_upload_mb=0"], "max_upload_mb=0: give a whole number from 1"),
        (["ckpt=none.ckpt", "share=yes"], "share=yes: give true"),
        (["ckpt=none.ckpt", "hosts=a.example:80"], "hosts=a.example:80: give host names without ports"),
    ],
)
def test_bad_settings_are_one_message(command: Command, settings: list[str], message: str) -> None:
    done = command("mshnet-app", *settings)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err


def test_a_port_in_use_and_a_missing_extra(command: Command, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command("mshnet-app", f"ckpt={checkpoint}", f"port={port}")
    assert done.code == 2 and f"port={port}: " in done.err and "give another port" in done.err
    for module in ("page", "events"):
        monkeypatch.delitem(sys.modules, f"mshnet_pl.app.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    done = command("mshnet-app", f"ckpt={checkpoint}")
    assert done.code == 2 and "pip install 'mshnet_pl[app]'" in done.err
