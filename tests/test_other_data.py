"""A network tested on data that it was not trained on, and few images a class."""

import json
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from coco_tree import draw_coco
from conftest import Command
from mshnet_pl import Segmenter
from mshnet_pl.data.sources import Coco20i, Pascal5i, Synthetic
from mshnet_pl.inference import pretrained
from tiny import TINY, TINY_RUN

QUICK = ("test.episodes=4", "test.pictures=0", "trainer.enable_progress_bar=false", "trainer.accelerator=cpu")


def draw_own(root: Path, classes: tuple[str, ...], images: int) -> None:
    rng = np.random.default_rng(0)
    for name in classes:
        for part in ("images", "masks"):
            (root / name / part).mkdir(parents=True)
        for i in range(images):
            mask = np.zeros((40, 40), np.uint8)
            mask[8 : 16 + i, 8:30] = 255
            image = np.repeat(mask[..., None] // 2, 3, 2) + rng.integers(0, 90, (40, 40, 3), np.uint8)
            Image.fromarray(image).save(root / name / "images" / f"{name}{i}.png")
            Image.fromarray(mask).save(root / name / "masks" / f"{name}{i}.png")


def draw_fss(root: Path) -> None:
    for part, names in (("trn", ["ant", "cup"]), ("val", ["owl"]), ("test", ["yak", "hat"])):
        (root / f"{part}.txt").write_text("\n".join(names))
        for name in names:
            (root / name).mkdir()
            for i in range(1, 11):
                mask = np.zeros((24, 24), np.uint8)
                mask[4 : 10 + i, 5:20] = 255
                Image.fromarray(mask).convert("RGB").save(root / name / f"{i}.jpg")
                Image.fromarray(mask).save(root / name / f"{i}.png")


def voc(root: Path) -> tuple[str, str]:
    return f"data.root={root}", f"data.splits_dir={root / 'splits'}"


def run_test(command: Command, ckpt: Path | str, runs: str, *arguments: str, side: int = 32) -> dict[str, Any]:
    done = command("mshnet-test", f"ckpt={ckpt}", f"runs={runs}", *QUICK, *arguments)
    assert done.code == 0, done.err
    (path,) = Path(runs).rglob("result.json")
    result: dict[str, Any] = json.loads(path.read_text())
    assert result["tests"][0]["episodes"] == 4 and result["config"]["data"]["image_size"] == side
    return {**result, "table": done.out}


def test_every_choice_of_data(command: Command, other: Path, pascal_root: Path, tmp_path: Path) -> None:
    draw_coco(tmp_path / "coco", range(0, 80, 4), 2)
    draw_own(tmp_path / "own", ("nut", "pin", "bolt"), 6)
    (tmp_path / "fss").mkdir()
    draw_fss(tmp_path / "fss")
    for choice, arguments, name, novel in (
        ("pascal5i", voc(pascal_root), "Pascal5i", [*Pascal5i.classes[5:10]]),
        ("coco20i", ("data.root=coco", "fold=0"), "Coco20i", [*Coco20i.classes[::4]]),
        ("fss1000", ("data.root=fss", "data.splits_dir=fss", "fold=0"), "Fss1000", ["yak", "hat"]),
        ("folder", ("data.root=own", "data.source.folds=3", "data.source.val_fraction=0.8"), "Folder own", ["nut"]),
    ):
        result = run_test(command, other, choice, f"data={choice}", "fold=1", *arguments)
        assert result["novel"] == novel and result["training"]["tested_classes_trained"] == []
        assert f"last, trained on Synthetic, tested on {name} " in result["table"], result["table"]
        (past,) = result["training"]["trainings"]
        assert (past["data"], past["classes"]) == ("Synthetic", [*Synthetic.classes[5:]])
    report = command("mshnet-report", "folder", "coco20i", "format=csv")
    assert report.code == 0 and '"trained on Synthetic, tested on Folder own"' in report.out, report.err


def test_a_network_by_name_on_every_choice_of_data(command: Command, pascal_root: Path, tmp_path: Path) -> None:
    """Of every class, too; the same as ``mshnet-train`` of its settings, which trains nothing."""
    draw_coco(tmp_path / "coco", range(0, 80, 4), 2)
    draw_own(tmp_path / "own", ("nut", "pin", "bolt"), 6)
    (tmp_path / "fss").mkdir()
    draw_fss(tmp_path / "fss")
    small = ("data.image_size=64", "test.protocol=seeded")
    pascal = ("data=pascal5i", *voc(pascal_root), "fold=1", *small)
    for classes, *arguments in (
        (5, *pascal),
        (20, "data=coco20i", "data.root=coco", "fold=0"),
        (2, "data=fss1000", "data.root=fss", "data.splits_dir=fss", "fold=0"),
        (3, "data=folder", "data.root=own", "data.source.val_fraction=0.8"),
        (20, "data=synthetic", "data.source.size=64"),
    ):
        result = run_test(command, "training-free", arguments[0], *arguments, *small, side=64)
        assert result["tests"][0]["weights"] == "training-free" and result["learnable_parameters"] == 0
        assert result["training"]["trainings"] == result["training"]["tested_classes_trained"] == []
        assert result["training"]["checkpoint_sha256"] == pretrained.digest("training-free")
        assert result["config"]["eval"]["guided"] == 0.09
        assert len(result["novel"]) == classes == result["training"]["tested_classes"]
    plain = Segmenter.from_pretrained(device="cpu")
    plain.method.photos.zero_()  # which training does not bring
    plain.save_pretrained("plain")
    (named,) = run_test(command, "plain", "without_photos", *pascal, side=64)["tests"]
    refined = ("eval.guided=0.09", "eval.zooms=[1.2,2.0]")
    network = ("model=density_ratio", "backbone=efficientnet_lite0_last", *refined, "test.checkpoint=last")
    assert command("mshnet-train", *pascal, *network, *QUICK, "val.episodes=0", "runs=trained").code == 0
    trained = json.loads(next(Path("trained").rglob("result.json")).read_text())["tests"][0]
    assert named["counts_sha256"] == trained["counts_sha256"]


def test_a_saved_network_is_tested_as_its_checkpoint(command: Command, other: Path, tmp_path: Path) -> None:
    """Its folder tells what it was trained on; one that does not tell in words alone."""
    Segmenter.from_checkpoint(other).save_pretrained("saved")
    data = ("data=synthetic", "data.source.size=32", "fold=0")
    results = {name: run_test(command, name, f"of-{Path(name).name}", *data) for name in (str(other), "saved")}
    ours, theirs = results["saved"], results[str(other)]
    assert ours["tests"][0]["counts_sha256"] == theirs["tests"][0]["counts_sha256"]
    assert ours["training"]["trainings"] == theirs["training"]["trainings"] and "MSHNet cosine" in ours["table"]
    config = json.loads(Path("saved", "config.json").read_text())
    del config["learned_from"]["trainings"]
    Path("saved", "config.json").write_text(json.dumps(config))
    assert "trained on Synthetic, fold 0, tested on Synthetic" in run_test(command, "saved", "untold", *data)["table"]
    for settings, message in (((), "data=pascal5i data.root=DIR"), (("data=synthetic", "fold=9"), "fold=9")):
        done = command("mshnet-test", "ckpt=training-free", *settings, *QUICK)
        assert done.code == 2 and message in done.err and "Traceback" not in done.err, done.err
    done = command("mshnet-test", "ckpt=traning-free", *data)
    assert done.code == 2 and "training-free" in done.err and "Traceback" not in done.err


def test_the_episodes_are_those_of_training_there(command: Command, other: Path, tmp_path: Path) -> None:
    draw_own(tmp_path / "own", ("nut", "pin", "bolt"), 6)
    own = ("data=folder", "data.root=own", "data.source.folds=3", "data.source.val_fraction=0.4", "fold=1")
    result = run_test(command, other, "elsewhere", *own)
    network = ("backbone=efficientnet_lite0", "recipe=demo", *TINY_RUN, "model.width=4")
    assert command("mshnet-train", *own, *network, "test.episodes=4").code == 0
    (path,) = Path("runs").rglob("result.json")
    trained = json.loads(path.read_text())
    assert result["tests"][0]["episodes_sha256"] == trained["tests"][0]["episodes_sha256"]
    back = run_test(command, path.parent / "checkpoints" / "last.ckpt", "back", "data=synthetic", "data.source.size=32")
    assert "trained on Folder own, tested on Synthetic" in back["table"] and back["novel"] == [*Synthetic.classes[5:10]]


def test_every_class_of_other_data_is_tested(command: Command, other: Path, tmp_path: Path) -> None:
    """A single class, too; a class that the network knows by the same name is named."""
    known = Synthetic.classes[5]
    draw_own(tmp_path / "own", (known, "nut"), 4)
    result = run_test(command, other, "all", "data=folder", "data.root=own", "data.source.val_fraction=1", "fold=all")
    assert result["novel"] == ["nut"] and result["training"]["tested_classes_trained"] == [known]
    assert "1 of 2 tested classes trained" in result["table"]
    draw_own(tmp_path / "one", ("nut",), 4)
    one = run_test(command, other, "single", "data=folder", "data.root=one", "data.source.val_fraction=1", "fold=all")
    assert one["novel"] == ["nut"]
    done = command("mshnet-test", f"ckpt={other}", "data=folder", "data.root=one", *QUICK)
    assert done.code == 2 and "nut is the only class" in done.err and "fold=all" in done.err, done.err


def test_own_data_that_changed_since(command: Command, other: Path, tmp_path: Path) -> None:
    draw_own(tmp_path / "own", ("nut", "pin"), 4)
    test = ("mshnet-test", f"ckpt={other}", "data=folder", "data.source.val_fraction=1", "fold=all", "runs=out", *QUICK)
    assert command(*test, "data.root=own").code == 0
    shutil.copytree("own", "copy")
    (path,) = Path("out").rglob("result.json")
    before = path.read_bytes()

    def again(*more: str) -> str:
        done = command(*test, "data.root=own", *more)
        assert done.code == 0 and "already done" in done.err and path.read_bytes() == before
        return done.err

    changed = "images, masks or lists are not those of this result any more"
    for place in sorted(Path("own").rglob("*.png")):
        place.touch()
    assert changed not in again()
    mask = Path("own/nut/masks/nut0.png")
    pixels = np.asarray(Image.open(mask)).copy()
    pixels[20, 20] = 255 - pixels[20, 20]
    Image.fromarray(pixels).save(mask)
    assert changed in again()
    shutil.copy("copy/nut/masks/nut0.png", mask)
    assert changed not in again()
    Path("own/pin/images/pin3.png").unlink()
    Path("own/pin/masks/pin3.png").unlink()
    assert changed in again()
    done = command(*test, "data.root=own", "data.source.novel=[pin]")
    assert done.code == 2 and "fold=all tests every class, but data.source.novel=pin; give fold=0, or no novel" in done.err


def test_classes_of_coco_are_known_by_their_voc_names(command: Command, other: Path, pascal_root: Path) -> None:
    content = torch.load(other, weights_only=True)
    classes = ["airplane", "potted plant", "tv", "zebra", "couch"]
    content["hyper_parameters"]["trainings"] = [{"data": "Coco20i", "fold": 1, "classes": classes, "tuned": False}]
    torch.save(content, "coco.ckpt")
    for fold, known in (("all", ["aeroplane", "pottedplant", "sofa", "tvmonitor"]), ("1", [])):
        result = run_test(command, Path("coco.ckpt"), fold, "data=pascal5i", *voc(pascal_root), f"fold={fold}")
        assert result["training"]["tested_classes_trained"] == known


def test_what_cannot_be_tested(command: Command, other: Path) -> None:
    for arguments, parts in (
        (("data=folder,synthetic", "-m"), ("data=folder,synthetic: give one data set",)),
        (("data=voc",), ("data=voc: there is no such choice", "pascal5i")),
        (("data=folder",), ("data.root=None, data.source.manifest=None: give one of the two",)),
        (("data=pascal5i",), ("data.root is not set",)),
    ):
        done = command("mshnet-test", f"ckpt={other}", *QUICK, *arguments)
        assert done.code == 2 and "Traceback" not in done.err, done.err
        for part in parts:
            assert part in done.err


@pytest.mark.one_in(2)
@pytest.mark.parametrize("images", [4, 5, 7])
def test_few_images_a_class(command: Command, tmp_path: Path, images: int) -> None:
    """The message counts what is there, and the way that it shows leads on."""
    names = ("bolt", "gear", "nut", "pin")
    draw_own(tmp_path / "own", names, images)
    settings = (*TINY_RUN, "backbone=efficientnet_lite0", "recipe=demo", "model.width=4", "trainer.max_steps=1", "fold=0")
    train = ("mshnet-train", *settings, "data.source.folds=2", "data=folder")
    done = command(*train, "data.root=own", "data.source.val_fraction=0.01")
    assert done.code == 2, done.err
    shares = {n: [zlib.crc32(f"{n}/images/{n}{i}.png".encode()) / 2**32 for i in range(images)] for n in names}
    for at, name in enumerate(names[:2]):
        few = sum(share < 0.01 for share in shares[name])
        assert f"{name} (class {at}): {few} for testing, of {images} in all" in done.err
    found = re.search(r"data\.source\.val_fraction=([\d.]+) gives", done.err)
    possible = max(sorted(shares[n])[1] for n in names[:2]) < min(sorted(shares[n])[-2] for n in names[2:])
    assert bool(found) == possible, done.err
    if found:
        again = command(*train, "data.root=own", f"data.source.val_fraction={found[1]}")
    else:
        assert "image,mask,class,split" in done.err and "data.source.manifest" in done.err
        lines = [
            f"own/{n}/images/{n}{i}.png,own/{n}/masks/{n}{i}.png,{n},{('val', 'train')[i % 2]}"
            for n in names
            for i in range(4)
        ]
        Path("list.csv").write_text("\n".join(["image,mask,class,split", *lines]))
        again = command(*train, "data.source.manifest=list.csv")
    assert again.code == 0, again.err


def test_a_published_list_leaves_nothing_to_share_out(command: Command, pascal_root: Path) -> None:
    lists = (*voc(pascal_root), "shot=5", "test.checkpoint=last", "backbone=efficientnet_lite0")
    done = command("mshnet-train", "data=pascal5i", *lists, *(one for one in TINY if not one.startswith("data.source")))
    assert done.code == 2 and "aeroplane (class 0): 3 for testing\n" in done.err and "val_fraction" not in done.err, done.err
