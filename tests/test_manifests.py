"""Manifests of one's own images, in CSV and JSON, as spreadsheets write them, and bad ones."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from folder_files import blob, draw, save
from mshnet_pl.data.sources import Folder
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.options import Subset

pytestmark = pytest.mark.usefixtures("own_cache")


def test_a_manifest_has_several_classes_an_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rows, masks = [], {}
    for number in range(6):
        draw(tmp_path / "pictures" / f"{number}.jpg", rng)
        for name, value in (("cat", 1), ("dog", 255), *([("emu", 40)] if number < 2 else [])):
            mask = blob(rng)
            save(tmp_path / "m" / f"{name}{number}.png", mask.astype(np.uint8) * value)
            masks[f"pictures/{number}.jpg", name] = mask
            row = {"image": f"pictures/{number}.jpg", "mask": f"m/{name}{number}.png", "class": name}
            rows.append({**row, "split": "val" if number % 3 == 0 else "train", "value": 40 if value == 40 else ""})
    with (tmp_path / "list.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "list.json").write_text(json.dumps([{k: v for k, v in row.items() if v != ""} for row in rows]))
    for manifest in ("list.csv", "list.json"):
        source = Folder(manifest=str(tmp_path / manifest), novel=["emu"])
        source.check()
        assert source.splits == "manifest" and source.classes == ("cat", "dog", "emu")
        assert {name for name, _ in source.pairs(Subset.VAL)} == {"pictures/0.jpg", "pictures/3.jpg"}
        assert source.contents(Subset.TRAIN)["pictures/1.jpg"] == {0, 1, 2}
        for (name, class_name), mask in masks.items():
            assert np.array_equal(source.mask(name, [source.classes.index(class_name)]), mask)
        both = masks["pictures/4.jpg", "cat"] | masks["pictures/4.jpg", "dog"]
        assert np.array_equal(source.mask("pictures/4.jpg", [0, 1]), both)


SPREADSHEETS: dict[str, Callable[[list[str]], bytes]] = {
    "semicolons": lambda rows: "\r\n".join(row.replace(",", ";") for row in rows).encode(),
    "Excel's separator line": lambda rows: b"sep=;\r\n" + "\r\n".join(r.replace(",", ";") for r in rows).encode(),
    "tabs": lambda rows: "\n".join(row.replace(",", "\t") for row in rows).encode(),
    "Unicode text": lambda rows: "\r\n".join(row.replace(",", "\t") for row in rows).encode("utf-16"),
    "mark": lambda rows: b"\xef\xbb\xbf" + "\r\n".join(rows).encode(),
    "capitals": lambda rows: "\n".join([rows[0].upper(), *rows[1:]]).encode(),
    "spaces": lambda rows: "\n".join(row.replace(",", " , ") for row in rows).encode(),
    "backslashes": lambda rows: "\n".join(row.replace("/", "\\") for row in rows).encode(),
    "quotes": lambda rows: "\n".join(";".join(f'"{cell}"' for cell in row.split(",")) for row in rows).encode(),
    "empty columns and rows": lambda rows: "\n".join([*(f"{row},,, " for row in rows), ",,,,,,,", "", " "]).encode(),
    "values with commas": lambda rows: "\n".join(row.replace(",", ";").replace(";1", ";1,0") for row in rows).encode(),
    "values with zeros": lambda rows: "\n".join(re.sub(",1$", ",1.00", row) for row in rows).encode(),
    "splits in capitals": lambda rows: re.sub("train,|val,", lambda word: word[0].upper(), "\n".join(rows)).encode(),
    "no last line end, old Mac": lambda rows: "\r".join(rows).encode(),
    "absolute paths": lambda rows: "\n".join(r.replace("pictures", f"{Path.cwd()}/./pictures") for r in rows).encode(),
}  # fmt: skip


@pytest.mark.parametrize("kind", SPREADSHEETS)
def test_a_manifest_of_a_spreadsheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    rng = np.random.default_rng(3)
    monkeypatch.chdir(tmp_path)
    rows = ["image,mask,class,split,value"]
    for name in ("bolt", "Mutter"):
        for number in range(4):
            image, mask = f"pictures/{name} {number}.png", f"masks/{name}{number}.png"
            draw(tmp_path / image, rng)
            save(tmp_path / mask, blob(rng).astype(np.uint8))
            rows.append(f"{image},{mask},{name},{'val' if number % 2 else 'train'},1")
    (tmp_path / "plain.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "list.csv").write_bytes(SPREADSHEETS[kind](rows))
    plain, source = (Folder(manifest=f"{stem}.csv", folds=2) for stem in ("plain", "list"))
    for one in (plain, source):
        one.check()
    assert source.classes == plain.classes and source.splits == "manifest"
    for subset in Subset:
        assert source.pairs(subset) == plain.pairs(subset) and len(source.pairs(subset)) == 4
        assert source.contents(subset) == plain.contents(subset)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,mask,class,splitt\na.png,b.png,cat,val\n", r"list\.csv:2: unknown column 'splitt'"),
        ("image,mask,class\na.png,,cat\n", r"list\.csv:2: no mask"),
        ("image,mask,class,split\na.png,b.png,cat,dev\n", "split 'dev'; give train or val"),
        ("image,mask,class,value\na.png,b.png,cat,red\n", "value 'red'; give the object's pixel value"),
        ("image,mask,class,split\na.png,b.png,cat,val\na.png,c.png,dog,train\n", r"a\.png: split val and split train"),
        ("image,mask,class,split\na.png,b.png,cat,val\nc.png,d.png,dog,\n", r"1 entries without a split, such as c\.png"),
        ("image,mask,class\na.png,b.png,cat\na.png,c.png,cat\n", r"a\.png: listed twice for cat"),
        ("image,mask,class\n", "is empty"),
        (
            "a.png,b.png,cat\n",
            r"list\.csv cannot be read: the first line is 'a\.png,b\.png,cat', but it must name the columns",
        ),
        ("image;mask;label\na;b;c\n", r"the first line is 'image;mask;label', but .*image, mask, class"),
        ("image,mask,class,class\na.png,b.png,cat,dog\n", "each once"),
        ("image,mask,class\na.png,b.png,cat,3,0\n", r"list\.csv:2: '3 0' in a column without a name"),
        ('image,mask,class,value\na.png,b.png,cat,"1,000"\n', "value '1,000'; give the object's pixel value"),
        ("image,mask,class\nC:\\p\\a.png,b.png,cat\n", r"list\.csv:2: C:\\p\\a\.png is a path of Windows; give it relative"),
        ("image,mask,class\n" + "a" * 300 + ".png,b.png,cat\n", "File name too long"),
        ('image,mask,class\n"a.png,b.png,cat\nc.png,d.png,dog\n', "cannot be read: unexpected end of data"),
        ("image,mask,class\na.png,b.png,Cat\nb.png,c.png,cat\n", "class 'cat', elsewhere 'Cat': spell it one way"),
        ("image,mask,class,split,split\na.png,b.png,cat,val,train\n", "each once"),
        (
            "image,mask,class,split\na.png,b.png,cat,val\n./x/../a.png,c.png,dog,train\n",
            r"a\.png: split val and split train",
        ),
    ],
)
def test_a_bad_manifest_is_explained(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        Folder(manifest=str(tmp_path / "list.csv"))


def test_one_picture_by_two_names(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").symlink_to("a.png")
    (tmp_path / "list.csv").write_text("image,mask,class,split\na.png,m.png,cat,train\nb.png,n.png,dog,val\n")
    with pytest.raises(DataError, match=r"b\.png: split train and split val, by a\.png, which is the same file"):
        Folder(manifest=str(tmp_path / "list.csv"))


def test_numbers_as_classes(tmp_path: Path) -> None:
    entries = [{"image": f"{i}.png", "mask": f"{i}m.png", "class": name} for i, name in enumerate((1, 1.0, "1", 1e3, 2.5))]
    (tmp_path / "list.json").write_text(json.dumps(entries))
    assert Folder(manifest=str(tmp_path / "list.json")).classes == ("1", "1000", "2.5")
    with pytest.raises(ConfigError, match=r"no class 1000\.0, None; there are .*; put what is no text in YAML in quotes"):
        Folder(manifest=str(tmp_path / "list.json"), novel=[1e3, None])


def test_a_bad_json_manifest_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    for text, message in (
        ("[", "cannot be read"),
        ("{}", "give a list of objects"),
        ("[3]", r"list\.json:1: 3 is no object"),
        ("[" * 9999, "cannot be read: "),
        ('[{"image": "a.png", "mask": "b.png", "class": ["a"]}]', r"list\.json:1: class \['a'\]; give texts and numbers"),
        ('[{"image": "a.png", "mask": "b.png", "class": true}]', r"list\.json:1: class True; give texts and numbers"),
        ('[{"image": "a.png", "mask": "b.png", "class": NaN}]', r"list\.json:1: class nan; give texts and numbers"),
        (
            r'[{"image": "a.png", "mask": "b.png", "class": "\ud800"}]',
            r"list\.json:1: the class '\\ud800' is no text in UTF-8",
        ),
        (r'[{"image": "\ud800.png", "mask": "b.png", "class": "a"}]', r"list\.json:1: '\\ud800.png' is no name that a file"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            Folder(manifest=str(path))
    with pytest.raises(DataError, match="no such file"):
        Folder(manifest=str(tmp_path / "gone.csv"))
    with pytest.raises(ConfigError, match="give one of the two"):
        Folder(manifest=str(path), root=str(tmp_path))
    with pytest.raises(ConfigError, match="give one of the two"):
        Folder()
