"""Where training starts, and what results say: none claims steps, episodes or unseen classes that it did not have."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image

from conftest import Command
from mshnet_pl import config
from mshnet_pl.data.sources import Synthetic
from mshnet_pl.errors import ConfigError
from test_convert import authors_file
from tiny import TINY, TINY_RUN

CLASSES = Synthetic.classes


def run(command: Command, name: str, runs: str, *arguments: str) -> tuple[dict[str, Any], Path]:
    """The result of a run of its own below ``runs``, and its folder."""
    done = command(name, f"runs={runs}", *arguments)
    assert done.code == 0, done.err
    (path,) = Path(runs).rglob("result.json")
    return json.loads(path.read_text()), path.parent


@pytest.fixture
def own(tmp_path: Path) -> tuple[str, ...]:
    """Settings of a run on one's own images, three classes of six, the last of them with the name of a synthetic class."""
    rng = np.random.default_rng(0)
    for name in ("nut", "pin", CLASSES[0]):
        for part in ("images", "masks"):
            (tmp_path / "own" / name / part).mkdir(parents=True)
        for i in range(6):
            mask = np.zeros((40, 40), np.uint8)
            mask[8 : 20 + i, 8:30] = 255
            image = np.repeat(mask[..., None] // 2, 3, 2) + rng.integers(0, 90, (40, 40, 3), np.uint8)
            Image.fromarray(image).save(tmp_path / "own" / name / "images" / f"{i}.png")
            Image.fromarray(mask).save(tmp_path / "own" / name / "masks" / f"{i}.png")
    data = ("data=folder", f"data.root={tmp_path / 'own'}", "data.source.folds=3", "data.source.val_fraction=0.5")
    return (*data, "backbone=efficientnet_lite0", "recipe=demo", *TINY_RUN, "model.width=4")


def test_another_training_does_not_go_on_as_this_one(command: Command, other: Path) -> None:
    for changes, named in (
        (("fold=1", "trainer.max_steps=9"), "fold=0 (here 1)"),
        (("optimizer.lr=0.5", "trainer.max_steps=9"), "optimizer.lr=0.05 (here 0.5)"),
        (("shot=2", "trainer.max_steps=9"), "shot=its default (here 2)"),
        (("trainer.max_steps=2",), "trainer.max_steps=2: nothing is left to do"),
    ):
        done = command("mshnet-train", *TINY, f"ckpt_path={other}", "runs=new", *changes)
        assert done.code == 2 and named in done.err and f"init_from={other}" in done.err, done.err
        assert "from its step 2" in done.err and not [*Path("new").rglob("result.json")]


def test_the_same_training_goes_on(command: Command, other: Path) -> None:
    result, _ = run(command, "mshnet-train", "new", *TINY, f"ckpt_path={other}", "trainer.max_steps=3", "val.episodes=2")
    assert result["training"]["steps"] == result["training"]["planned_steps"] == 3 and result["training"]["resumed"]
    assert [one["tuned"] for one in result["training"]["trainings"]] == [False]
    assert result["training"]["tested_classes_trained"] == []


def test_fine_tuning_takes_the_weights_and_not_the_steps(command: Command, other: Path, tmp_path: Path) -> None:
    tested, _ = run(command, "mshnet-test", "tested", f"ckpt={other}")
    result, folder = run(
        command, "mshnet-train", "new", *TINY, f"init_from={other}", "trainer.max_steps=1", "test.untrained=true"
    )
    start, last = result["tests"]
    same = {key: value for key, value in start.items() if key not in ("seconds", "weights", "pictures_sha256")}
    assert same == {key: tested["tests"][0][key] for key in same} and (start["weights"], last["weights"]) == (
        "start",
        "last",
    )
    assert result["training"]["steps"] == 1 and not result["training"]["resumed"]
    trained = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert trained["global_step"] == 1
    weights = torch.load(other, weights_only=True)["state_dict"]
    moved = [key for key, value in trained["state_dict"].items() if not torch.equal(value, weights[key])]
    assert moved and all(".backbone." not in key for key in moved)

    shutil.copy(other, tmp_path / "moved.ckpt")
    again = (*TINY, "runs=new", "trainer.max_steps=1", "test.untrained=true")
    assert "already done" in command("mshnet-train", *again, f"init_from={tmp_path / 'moved.ckpt'}").err
    shutil.copy(folder / "checkpoints" / "last.ckpt", tmp_path / "moved.ckpt")
    assert "already done" not in command("mshnet-train", *again, f"init_from={tmp_path / 'moved.ckpt'}").err
    report = command("mshnet-report", "new", "format=csv")
    assert report.code == 0 and "fine-tuned" in report.out, report.err


def test_what_cannot_be_started_from(command: Command, other: Path) -> None:
    for arguments, parts in (
        ((f"init_from={other}", "model.width=8"), (f"init_from={other} does not hold", "model.width=4 (here 8)")),
        ((f"init_from={other}", f"ckpt_path={other}"), ("give one of the two",)),
        (("init_from=none.ckpt",), ("init_from=none.ckpt: no such file",)),
    ):
        done = command("mshnet-train", *TINY, "runs=new", *arguments)
        assert done.code == 2 and "Traceback" not in done.err, done.err
        for part in parts:
            assert part in done.err


def test_trained_classes_are_named_whichever_way_they_came(command: Command, other: Path) -> None:
    """A network of fold 0 is tuned on fold 1, whose classes it knows; so does whoever is tuned from it in turn."""
    result, folder = run(command, "mshnet-train", "tuned", *TINY, f"init_from={other}", "fold=1", "trainer.max_steps=1")
    tuned = folder / "checkpoints" / "last.ckpt"
    assert result["training"]["tested_classes_trained"] == [*CLASSES[5:10]]
    grandchild, _ = run(command, "mshnet-train", "again", *TINY, f"init_from={tuned}", "fold=1", "trainer.max_steps=1")
    assert [one["fold"] for one in grandchild["training"]["trainings"]] == [0, 1, 1]
    tested, _ = run(command, "mshnet-test", "tested", f"ckpt={tuned}", "test.episodes=3")
    unseen, _ = run(command, "mshnet-test", "unseen", f"ckpt={other}", "test.episodes=3")
    for one in (grandchild, tested):
        assert one["training"]["tested_classes_trained"] == [*CLASSES[5:10]]
    assert unseen["training"]["tested_classes_trained"] == []
    report = command("mshnet-report", "tuned", "again", "tested", "unseen")
    assert report.code == 0 and report.out.count("tests classes that its network was trained on") == 3, report.err
    assert "last, fine-tuned, tested classes trained" in report.out.replace("2 of 2 ", "")


def test_older_checkpoints_tell_their_classes_by_their_fold(command: Command, other: Path) -> None:
    content = torch.load(other, weights_only=True)
    del content["hyper_parameters"]["trainings"]
    torch.save(content, "old.ckpt")
    for fold, trained in ((0, 0), (2, 5)):
        result, _ = run(command, "mshnet-test", f"fold{fold}", "ckpt=old.ckpt", f"fold={fold}")
        assert len(result["training"]["tested_classes_trained"]) == trained


def test_own_images_are_a_place_to_tune_a_network(command: Command, other: Path, own: tuple[str, ...]) -> None:
    result, _ = run(command, "mshnet-train", "new", *own, f"init_from={other}", "fold=0")
    told = result["training"]
    assert [one["data"] for one in told["trainings"]] == ["Synthetic", "Folder own"] and told["steps"] == 2
    assert result["novel"] == [min("nut", "pin", CLASSES[0])] and told["tested_classes_trained"] == []
    report = command("mshnet-report", "new")
    assert report.code == 0 and "trained on Synthetic, then Folder own" in report.out


def test_the_authors_network_can_be_tuned(command: Command, tmp_path: Path, pascal_root: Path) -> None:
    authors_file(tmp_path / "a.pth", ("prototype",))
    assert command("mshnet-convert", "in=a.pth", "out=b.ckpt", "fold=0").code == 0
    network = ("data=pascal5i", f"data.root={pascal_root}", f"data.splits_dir={pascal_root / 'splits'}", "fold=1")
    network += ("similarity=[prototype]", "model.width=4", *TINY_RUN, "data.image_size=64", "trainer.max_steps=1")
    result, _ = run(
        command, "mshnet-train", "new", *network, "init_from=b.ckpt", "recipe=authors_code", "trainer.max_epochs=-1",
        "test.checkpoint=last", "val.episodes=0",
    )  # fmt: skip
    assert result["training"]["steps"] == 1
    assert len(result["training"]["tested_classes_trained"]) == 5


@pytest.mark.parametrize(
    ("switch", "way_out"),
    [
        ("fast_dev_run=true", "trainer.max_steps=1 test.episodes"), ("fast_dev_run=3", "trainer.max_steps=1 test.episodes"),
        ("limit_train_batches=0.5", "trainer.max_steps"), ("overfit_batches=1", "trainer.max_steps"),
        ("max_time='00:00:00:01'", "SIGTERM"), ("limit_val_batches=1", "val.episodes"), ("barebones=true", "logger=none"),
        ("limit_test_batches=1", "test.episodes"), ("limit_predict_batches=1", "test.pictures"),
        ("logger=false", "logger=csv"), ("enable_checkpointing=false", "save_every_n_steps"),
        ("val_check_interval=3", "val.every_n_steps"),
    ],
)  # fmt: skip
def test_switches_that_cut_work_short(switch: str, way_out: str) -> None:
    with pytest.raises(ConfigError, match=rf"trainer\.{switch.partition('=')[0]}=.*{way_out}"):
        config.typed(config.compose(f"+trainer.{switch}"))


@pytest.mark.parametrize("switch", ["fast_dev_run=false", "limit_test_batches=1.0", "limit_val_batches=null"])
def test_switches_that_are_off(switch: str) -> None:
    assert config.typed(config.compose(f"+trainer.{switch}")).fold == 0


@pytest.mark.parametrize("switch", ["+trainer.limit_test_batches=1", "+trainer.max_time='00:00:00:01'"])
def test_a_refused_switch_leaves_no_result(command: Command, switch: str) -> None:
    done = command("mshnet-train", *TINY, "test.episodes=20", switch)
    assert done.code == 2 and "Traceback" not in done.err and not [*Path().rglob("result.json")], done.err


def test_a_validation_that_never_comes_is_no_best_one(command: Command) -> None:
    done = command("mshnet-train", *TINY, "val.episodes=2", "test.checkpoint=best")
    assert done.code == 2 and "val.every_n_steps=500: trainer.max_steps=2 ends before" in done.err, done.err


EPOCHS = (
    *TINY, "trainer.max_steps=-1", "trainer.max_epochs=2", "data.source.train_images=2", "data.source.val_images=3",
    "data.novel_pixels=keep", "data.batch_size=4",
)  # fmt: skip
"""7 batches an epoch."""


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("val.every_n_steps=15",), "val.every_n_steps=15: trainer.max_epochs=2 ends before the first validation"),
        (("val.every_n_steps=5", "trainer.accumulate_grad_batches=3"), "give val.every_n_steps=4, or"),
        (("val.every_n_steps=1", "trainer.accumulate_grad_batches=15"), "give a larger limit, or test.checkpoint=last"),
        (("val.every_n_steps=3", "trainer.max_steps=4", "trainer.accumulate_grad_batches=5"), "give val.every_n_steps=2"),
    ],
)
def test_epochs_that_end_before_a_validation(command: Command, settings: tuple[str, ...], message: str) -> None:
    done = command("mshnet-train", *EPOCHS, "val.episodes=2", "test.checkpoint=best", *settings)
    assert done.code == 2 and message in done.err and not [*Path().rglob("*.ckpt")], done.err


def test_the_last_validation_of_an_epoch_is_the_best_one(command: Command) -> None:
    settings = ("trainer.accumulate_grad_batches=3", "val.every_n_steps=4", "val.episodes=2", "test.checkpoint=best")
    result, _ = run(command, "mshnet-train", "best", *EPOCHS, *settings)
    assert result["tests"][0]["weights"] == "best" and result["training"]["steps"] == 6


def test_episodes_are_those_that_training_saw(command: Command) -> None:
    training = run(command, "mshnet-train", "seen", *EPOCHS, "trainer.accumulate_grad_batches=4")[0]["training"]
    assert training["steps"] == training["planned_steps"] == 4 and training["episodes"] == 2 * 7 * 4


def test_novel_pixels_that_are_ignored_do_not_train(command: Command, tmp_path: Path) -> None:
    """Where a novel class is background, and where the loss leaves it out."""
    weights = []
    for novel in ("keep", "ignore"):
        done = command("mshnet-train", *TINY, f"runs={novel}", f"data.novel_pixels={novel}", "data.batch_size=4")
        assert done.code == 0, done.err
        (file,) = (tmp_path / novel).rglob("last.ckpt")
        weights.append(torch.load(file, weights_only=True)["state_dict"])
    assert any(not torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_no_epoch_trains_nothing(command: Command) -> None:
    result, _ = run(command, "mshnet-train", "none", *TINY, "trainer.max_steps=-1", "trainer.max_epochs=0")
    assert result["tests"][0]["weights"] == "untrained" and result["training"]["steps"] == 0


def test_every_class_is_trained_and_said_so(command: Command) -> None:
    result, folder = run(command, "mshnet-train", "every", *TINY, "fold=all")
    assert result["novel"] == [] and result["training"]["tested_classes_trained"] == [*CLASSES]
    assert result["training"]["trainings"][0]["fold"] == "all" and "foldall" in folder.name
    run(command, "mshnet-train", "one", *TINY)
    report = command("mshnet-report", "every", "one")
    assert report.code == 0, report.err
    assert "last, every class trained" in report.out and "fold all" in report.out
    again, _ = run(command, "mshnet-test", "again", f"ckpt={folder / 'checkpoints' / 'last.ckpt'}", "fold=1")
    assert again["training"]["tested_classes_trained"] == [*CLASSES[5:10]]
    refused = command("mshnet-train", *TINY, "fold=every")
    assert refused.code == 2 and "fold=every: give the fold's number, or all" in refused.err


class Cut(pl.Callback):
    """Ends tests after their first batch, as no setting may."""

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.limit_test_batches = 1


def test_a_test_that_is_cut_short_has_no_result(command: Command) -> None:
    done = command("mshnet-train", *TINY, "test.episodes=6", "+callbacks.cut._target_=test_start.Cut")
    assert done.code == 1 and "2 of 6 episodes were tested" in done.err and not [*Path().rglob("result.json")], done.err
