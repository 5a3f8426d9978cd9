"""mshnet-prepare on COCO and FSS-1000, and its settings."""

import json
import re
import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from conftest import SHARED, Command
from mshnet_pl.data.prepare.prepare import prepare
from mshnet_pl.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def run(root: Path, data: str, splits_dir: Path | None = None) -> None:
    prepare(data, root, splits_dir)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "data is not set; give data="),
        (["data=pascal5i"], r"data\.root is not set"),
        (["data=pascal", "data.root=."], "data=pascal: give pascal5i or coco20i or fss1000 or folder"),
        (["data.rot=."], r"data\.rot=\.: there is no such setting here; did you mean data\.root=\.\.\.\?"),
    ],
)
def test_settings_are_checked(command: Command, settings: list[str], message: str) -> None:
    done = command("mshnet-prepare", *settings)
    assert done.code == 2 and re.search(message, done.err)


def coco(year: int) -> dict[str, dict[str, bytes]]:
    """COCO's three archives with two images in each part."""
    archives: dict[str, dict[str, bytes]] = {f"annotations_trainval{year}.zip": {"annotations/captions_val2014.json": b"{}"}}
    for part in (f"train{year}", f"val{year}"):
        names = [f"{number:012d}.jpg" for number in range(2)]
        archives[f"{part}.zip"] = {f"{part}/{name}": name.encode() for name in names}
        content = {
            "images": [{"file_name": n} for n in names],
            "annotations": [{}],
            "categories": [{"id": i} for i in range(80)],
        }
        archives[f"annotations_trainval{year}.zip"][f"annotations/instances_{part}.json"] = json.dumps(content).encode()
    return archives


def write(root: Path, archives: dict[str, dict[str, bytes]]) -> None:
    for name, files in archives.items():
        with zipfile.ZipFile(root / name, "w") as file:
            for path, content in files.items():
                file.writestr(path, content)


@pytest.mark.parametrize("year", [2014, 2017])
def test_coco_from_archives(root: Path, year: int, capsys: pytest.CaptureFixture[str]) -> None:
    write(root, coco(year))
    run(root, "coco20i")
    assert f"train{year}: 2 images, 1 objects, 80 classes" in capsys.readouterr().out
    assert not list(root.glob("annotations/captions*"))
    for part in (f"train{year}", f"val{year}"):
        assert (root / part / "000000000001.jpg").read_bytes() == b"000000000001.jpg"
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    run(root, "coco20i")
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_coco_that_is_incomplete(root: Path) -> None:
    archives = coco(2014)
    del archives["val2014.zip"]["val2014/000000000001.jpg"]
    archives["annotations_trainval2014.zip"]["annotations/instances_train2014.json"] = b'{"images": ['
    val = archives.pop("val2014.zip")
    write(root, archives)
    with pytest.raises(
        DataError, match=r"COCO val2014: no val2014\n.*/zips/val2014\.zip \(about 6 GB\) and put it at .*root"
    ):
        run(root, "coco20i")
    assert not (root / "train2014").exists()
    write(root, {"val2014.zip": val})
    with pytest.raises(DataError, match=r"instances_train2014\.json: no instance annotations(.|\n)*1\.jpg: no such file"):
        run(root, "coco20i")
    assert (root / "train2014" / "000000000001.jpg").exists()


def test_coco_2017_does_not_fit_the_published_lists(root: Path) -> None:
    (root / "train2017").mkdir()
    with pytest.raises(DataError, match="name the images of COCO 2014"):
        run(root, "coco20i", Path("lists"))


def test_real_coco(capsys: pytest.CaptureFixture[str]) -> None:
    mini = SHARED / "data" / "coco20i_mini"
    if not mini.is_dir():
        pytest.skip(f"no {mini}")
    run(mini, "coco20i")
    assert "train2014: 119 images" in capsys.readouterr().out


@pytest.mark.parametrize("prefix", ["", "fewshot_data"])
def test_fss(root: Path, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="HKUSTCV/FSS-1000 says where"):
        run(root, "fss1000")
    for name in ("abacus", "fountain"):
        (root / prefix / name).mkdir(parents=True)
        for number in range(1, 11):
            for suffix in ("jpg", "png"):
                Image.new("L", (4, 4)).save(root / prefix / name / f"{number}.{suffix}")
    run(root, "fss1000")
    assert "2 of 1,000 classes" in capsys.readouterr().out
    (root / prefix / "fountain" / "7.png").unlink()
    (root / prefix / "fountain" / "1.jpg").unlink()
    (root / prefix / "fountain" / "8.png").write_bytes(b"")
    (tmp_path / "trn.txt").write_text("abacus\ntaxi\n")
    (tmp_path / "val.txt").write_text("fountain\n")
    with pytest.raises(DataError, match=r"taxi: no such class(.|\n)*test\.txt is missing") as refused:
        run(root, "fss1000", tmp_path)
    for line in ("1.jpg: no such file", "7.png: no such file", "8.png: no image"):
        assert f"fountain/{line}" in str(refused.value)


def test_folders_of_ones_own_are_looked_through(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("images", "masks"):
        (root / "cat" / part).mkdir(parents=True)
        Image.new("L", (4, 4)).save(root / "cat" / part / "1.png")
    run(root, "folder")
    assert "1 images with masks of 1 classes, which are used as they are" in capsys.readouterr().out
    (root / "cat" / "masks" / "1.png").unlink()
    with pytest.raises(DataError, match="cat: 1 has 1 images and 0 masks"):
        run(root, "folder")
    shutil.rmtree(root)
    with pytest.raises(DataError, match="no such folder"):
        run(root, "folder")
