"""Split lists as people have them: read as the plain ones are, or refused; never half read."""

import codecs
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coco_tree import draw_coco, name
from conftest import Command
from mshnet_pl.data.sources import AbstractSource, Coco20i, Fss1000, Pascal5i
from mshnet_pl.errors import DataError
from mshnet_pl.inference.query_lists import ListFile, wanted_files
from mshnet_pl.options import Subset

ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "windows": lambda text: codecs.BOM_UTF8 + text.replace("\n", "\r\n").encode(),
    "old mac": lambda text: text.replace("\n", "\r").encode(),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16 without mark": lambda text: text.encode("utf-16-le"),
    "utf-16 the other way": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "utf-32": lambda text: text.encode("utf-32"),
    "joined": lambda text: b"".join(codecs.BOM_UTF8 + line.encode() for line in text.splitlines(keepends=True)),
    "blank lines and comments": lambda text: ("# these\n\n" + text.replace("\n", " \n\n\t\n")).encode(),
}
WORDS: dict[str, Callable[[str], str]] = {
    "extension": lambda line: f"{line}.jpg",
    "capital extension": lambda line: f"{line}.JPG",
    "folder": lambda line: f"/data/VOC2012/JPEGImages/{line}.jpg",
    "folder of Windows": lambda line: rf"C:\VOC 2012\JPEGImages\{line}.jpg".replace(" ", "_"),
    "quotes": lambda line: f'"{line}"',
}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))


@pytest.fixture
def voc(pascal_root: Path) -> Path:
    """VOC's tree with its own list of test images: half of them; every object is large enough to count."""
    for path in sorted((pascal_root / "SegmentationClassAug").glob("*.png")):
        large = np.full((60, 60), int(path.stem.split("_")[1]), np.uint8)
        Image.fromarray(large).save(path)
        Image.new("RGB", (60, 60)).save(pascal_root / "JPEGImages" / f"{path.stem}.jpg")
    own = pascal_root / "ImageSets" / "Segmentation" / "val.txt"
    own.parent.mkdir(parents=True)
    own.write_text("".join(f"{path.stem}\n" for path in sorted((pascal_root / "JPEGImages").glob("val_*"))))
    return pascal_root


@pytest.fixture
def fss(tmp_path: Path) -> Path:
    for part, names in (("trn", "ant"), ("val", "bus owl"), ("test", "yak hat")):
        for one in names.split():
            (tmp_path / "fss" / one).mkdir(parents=True)
            for number in range(1, 11):
                mask = Image.fromarray(np.eye(20, dtype=np.uint8) * 255)
                mask.convert("RGB").save(tmp_path / "fss" / one / f"{number}.jpg")
                mask.save(tmp_path / "fss" / one / f"{number}.png")
        (tmp_path / f"{part}.txt").write_text(names.replace(" ", "\n") + "\n")
    return tmp_path


def pairs(source: AbstractSource) -> list[list[tuple[str, int]]]:
    source.check()
    return [source.pairs(subset) for subset in Subset]


@pytest.mark.parametrize("how", ENCODINGS)
def test_every_list_in_every_encoding(voc: Path, fss: Path, how: str) -> None:
    doors: list[tuple[Callable[[], AbstractSource], list[Path]]] = [
        (lambda: Pascal5i(str(voc)), [voc / "ImageSets" / "Segmentation" / "val.txt"]),
        (lambda: Pascal5i(str(voc), str(voc / "splits")), sorted((voc / "splits").rglob("*.txt"))),
        (lambda: Fss1000(str(fss / "fss"), str(fss)), sorted(fss.glob("*.txt"))),
    ]
    for door, lists in doors:
        expected = pairs(door())
        assert all(expected)
        for path in lists:
            path.write_bytes(ENCODINGS[how](path.read_text()))
        assert pairs(door()) == expected


@pytest.mark.parametrize("how", sorted({*ENCODINGS} - {"joined", "blank lines and comments"}))
@pytest.mark.parametrize("suffix", [".txt", ".csv"])
def test_lists_of_queries(tmp_path: Path, how: str, suffix: str) -> None:
    text = 'path\na.jpg\n"b/c.png"\n'
    path = tmp_path / f"list{suffix}"
    path.write_bytes(ENCODINGS[how](text if suffix == ".csv" else text.removeprefix("path\n")))
    assert [*ListFile(path)] == [tmp_path / "a.jpg", tmp_path / "b" / "c.png"]


@pytest.mark.parametrize("how", WORDS)
def test_names_as_paths(voc: Path, how: str) -> None:
    for door, lists in (
        (lambda: Pascal5i(str(voc)), [voc / "ImageSets" / "Segmentation" / "val.txt"]),
        (lambda: Pascal5i(str(voc), str(voc / "splits")), sorted((voc / "splits").rglob("*.txt"))),
    ):
        expected = pairs(door())
        for path in lists:
            path.write_text("".join(f"{WORDS[how](line)}\n" for line in path.read_text().split()))
        assert pairs(door()) == expected


def test_names_of_coco_as_paths(tmp_path: Path) -> None:
    root = draw_coco(tmp_path / "coco")
    derived = Coco20i(str(root))
    expected = pairs(derived)
    spellings = ("{0}2014/COCO_{0}2014_{1:012d}.jpg", "COCO_{0}2014_{1:012d}", r"C:\coco\{0}2014\COCO_{0}2014_{1:012d}.jpg",
                 "{1:012d}.jpg", "train2017/{1:012d}.jpg")  # fmt: skip
    for spelling in spellings:
        for subset, listed in zip(("train", "val"), expected, strict=True):
            classes: dict[int, list[str]] = {c: [] for c in range(80)}
            for image, c in listed:
                classes[c].append(spelling.format(subset, int(image[-16:-4])))
            path = tmp_path / "splits" / ("trn" if subset == "train" else "val") / "fold0.pkl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pickle.dumps(classes))
        assert pairs(Coco20i(str(root), str(tmp_path / "splits"))) == expected
    path.write_bytes(pickle.dumps({0: [name("train", 5)]}))
    with pytest.raises(DataError, match=r"lists in .* name images that .*val2014\.json lacks"):
        Coco20i(str(root), str(tmp_path / "splits")).check()


def test_two_columns_of_one_image(voc: Path) -> None:
    own = voc / "ImageSets" / "Segmentation" / "val.txt"
    expected, names = pairs(Pascal5i(str(voc))), own.read_text().split()
    own.write_text("".join(f"/JPEGImages/{one}.jpg /SegmentationClassAug/{one}.png\n" for one in [*names, names[0]]))
    assert pairs(Pascal5i(str(voc))) == expected


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["val_01_0 -1", "val_01_1 1"], r"lines that do not name one image:\n  .*val\.txt:1: 'val_01_0 -1'\n  .*val\.txt:2"),
        (
            ["val_01_0", "val_01_9", "val_02_\u200b0"],
            r"not there:(.|\n)*val\.txt:2: val_01_9: no file .*\n.*txt:3: val_02_",
        ),
        (["# nothing"], r"val\.txt is empty"),
    ],
)
def test_an_entry_that_matches_nothing_is_never_passed_over(voc: Path, lines: list[str], message: str) -> None:
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(lines))
    for bad in (None, {}):
        with pytest.raises(DataError, match=message):
            Pascal5i(str(voc)).check(bad)


NO_TEXT: dict[str, tuple[bytes, str]] = {
    "latin-1": ("2007_0000é".encode("latin-1"), r"is no text in UTF-8: .* at byte 9 \(0xe9\); save it as UTF-8"),
    "latin-1 after a mark": (codecs.BOM_UTF8 + "é".encode("latin-1"), r"is no text in UTF-8: .* at byte 3 \(0xe9\)"),
    "png": (b"\x89PNG\r\n\x1a\n", "is no text in UTF-8"),
    "zip": (b"PK\x03\x04\x14\x00\x06\x00\x08\x08", "is no text"),
    "half of UTF-16": ("ab".encode("utf-16")[:-1], "is no text in UTF-16-LE: truncated data"),
    "control": (b"ab\x1a", r"is no text: '\\x1a' in line 1"),
}


@pytest.mark.parametrize("kind", NO_TEXT)
def test_what_is_no_text(command: Command, voc: Path, fss: Path, kind: str) -> None:
    content, message = NO_TEXT[kind]
    listed = {
        voc / "ImageSets" / "Segmentation" / "val.txt": lambda: Pascal5i(str(voc)).check(),
        voc / "splits" / "trn" / "fold2.txt": lambda: Pascal5i(str(voc), str(voc / "splits")).check(),
        fss / "test.txt": lambda: Fss1000(str(fss / "fss"), str(fss)),
        fss / "list.csv": lambda: None,
    }
    for path, door in listed.items():
        path.write_bytes(content)
        if path.suffix == ".txt":
            with pytest.raises(DataError, match=rf"{path.name} {message}"):
                door()
    done = command("mshnet-prepare", "data=fss1000", f"data.root={fss / 'fss'}", f"data.splits_dir={fss}")
    assert done.code == 2 and "test.txt is no text" in done.err and "Traceback" not in done.err, done.err


def test_files_whose_names_begin_as_comments_do(tmp_path: Path) -> None:
    (tmp_path / "#1.png").touch()
    (tmp_path / "list.txt").write_text('#1.png\n#2.png\n# 1.png\n"#2.png"\n')
    assert [*ListFile(tmp_path / "list.txt")] == [tmp_path / "#1.png", tmp_path / "#2.png"]


def test_links_that_lead_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p" / "q").mkdir(parents=True)
    for place in ("a.png", "p/b.png", "p/q/c.png"):
        Image.new("RGB", (2, 2)).save(tmp_path / place)
    (tmp_path / "p" / "q" / "up").symlink_to("..")
    (tmp_path / "beside").symlink_to("p")
    monkeypatch.chdir(tmp_path)
    for pattern in ("**/*.png", f"{tmp_path}/**/*.png", "p/../**/*.png"):
        found = sorted(os.path.normpath(os.path.relpath(path)) for path in wanted_files(pattern).images)
        assert found == ["a.png", "beside/b.png", "beside/q/c.png", "p/b.png", "p/q/c.png"]


def test_all_problems_of_all_lists_at_once(voc: Path, fss: Path) -> None:
    lists = voc / "splits"
    (lists / "trn" / "fold0.txt").write_text("trn_01_0__01\ntrn_01_0.jpg__1\ntrn_01_1__²\ntrn_01_1 1\n")
    (lists / "trn" / "fold1.txt").unlink()
    (lists / "val" / "fold3.txt").write_text("val_16_0__21\n")
    with pytest.raises(DataError) as error:
        Pascal5i(str(voc), str(lists)).check()
    for part in (
        "fold0.txt:2: 'trn_01_0.jpg__1' is at",
        "fold0.txt:3",
        "fold0.txt:4",
        "fold1.txt is missing",
        "fold3.txt:1",
    ):
        assert part in str(error.value)
    for path in (fss / "trn.txt", fss / "test.txt"):
        path.write_text("\n")
    with pytest.raises(DataError, match=r"trn\.txt is empty(.|\n)*test\.txt is empty"):
        Fss1000(str(fss / "fss"), str(fss))


def test_the_lists_of_another_layout(voc: Path) -> None:
    """Some code bases list a fold's base classes in ``trn/foldK.txt``: every image would count three times."""
    lists = [(voc / "splits" / "trn" / f"fold{fold}.txt") for fold in range(4)]
    text = [path.read_text() for path in lists]
    for fold, path in enumerate(lists):
        path.write_text("".join(text[other] for other in range(4) if other != fold))
    with pytest.raises(DataError, match=r"lists of one folder share entries(.|\n)*fold1\.txt:.* is at .*fold0\.txt"):
        Pascal5i(str(voc), str(voc / "splits")).check()
