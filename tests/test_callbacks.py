"""Health of training, early stopping, averaging and the learning-rate finder, through the command."""

import copy
import csv
import io
import json
from pathlib import Path
from typing import Any, ClassVar

import hydra
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import tiny
from conftest import Command
from mshnet_pl import config
from mshnet_pl.models.convolutions import convolve_projected
from mshnet_pl.runs import build
from mshnet_pl.runs.job import Run
from mshnet_pl.training.callbacks.ema import ExponentialMovingAverage

TINY = (*tiny.TINY, "scheduler=constant", "trainer.log_every_n_steps=1")


class Record(pl.Callback):
    """Keeps what training saw and made: episode numbers, and the weights after every step."""

    episodes: ClassVar[list[list[int]]] = []
    weights: ClassVar[list[dict[str, Tensor]]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, i: int) -> None:  # noqa: ANN401
        Record.episodes.append(batch.number.tolist())
        Record.weights.append(copy.deepcopy(module.state_dict()))


RECORD = "+callbacks.record._target_=test_callbacks.Record"


def train(command: Command, runs: str, *arguments: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The result and the last checkpoint of a run of its own below ``runs``."""
    Record.episodes, Record.weights = [], []
    done = command("mshnet-train", *TINY, f"runs={runs}", *arguments)
    assert done.code == 0, done.err
    (result,) = Path(runs).rglob("result.json")
    return json.loads(result.read_text()), torch.load(result.parent / "checkpoints" / "last.ckpt", weights_only=True)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.equal(value, other["state_dict"][key]) for key, value in one["state_dict"].items())


def test_gradient_norm_throughput_and_classes_in_any_logger(command: Command) -> None:
    plain = ("optimizer.momentum=0", "optimizer.weight_decay=0", "optimizer.lr=0.01", "trainer.gradient_clip_val=null")
    arguments = (*plain, "trainer.max_steps=1", "val.episodes=4", "val.every_n_steps=1")
    result, checkpoint = train(command, "tb", *arguments, "logger=tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = Path("tb").rglob("log")
    events = EventAccumulator(str(folder)).Reload()
    logged = {tag: events.Scalars(tag)[-1].value for tag in events.Tags()["scalars"]}

    images = events.Tags()["images"]
    assert {tag.rpartition("/")[0] for tag in images} == {"panel/predictions", "panel/energy"} and len(images) == 8
    predictions = [events.Images(tag)[0] for tag in images if "predictions" in tag]
    size = 32
    assert {(shown.width, shown.height) for shown in predictions} == {(3 * size + 4, size)}  # query, truth, prediction
    with Image.open(io.BytesIO(predictions[0].encoded_image_string)) as picture:
        query, truth, _ = (np.asarray(picture)[:, i * (size + 2) : i * (size + 2) + size].astype(int) for i in range(3))
    assert (truth[(query != truth).any(2)] - query[(query != truth).any(2)]).mean(0).argmax() == 0  # the object turns red

    overrides = [*TINY, *arguments]
    with hydra.initialize_config_module("mshnet_pl.conf", version_base="1.3"):
        raw = hydra.compose("config", overrides=overrides)
    pl.seed_everything(0, verbose=False)
    initial = build.make_module(Run.of(raw))
    trainable = {name: value.detach() for name, value in initial.named_parameters() if value.requires_grad}
    steps = [value - checkpoint["state_dict"][name] for name, value in trainable.items()]
    assert logged["train/grad_norm"] == pytest.approx(float(torch.cat([s.flatten() for s in steps]).norm()) / 0.01, rel=1e-3)
    assert logged["train/episodes_per_second"] > 0

    test = result["tests"][0]
    assert logged["test/miou"] == pytest.approx(test["miou"], rel=1e-6, abs=1e-6)
    for name, iou in test["class_iou"].items():
        assert logged[f"test/iou/{name}"] == pytest.approx(iou, rel=1e-6, abs=1e-6)
    of_classes = {
        stage: [v for k, v in logged.items() if k.startswith(f"{stage}/iou/")] for stage in ("train", "val", "test")
    }
    for stage, ious in of_classes.items():
        assert sum(ious) / len(ious) == pytest.approx(logged[f"{stage}/miou"], rel=1e-5, abs=1e-5)

    train(command, "csv", *arguments, "logger=csv")
    (path,) = Path("csv").rglob("metrics.csv")
    with path.open() as file:
        rows = [*csv.DictReader(file)]
    in_csv = {key: float(row[key]) for row in rows for key in row if row[key]}
    assert in_csv["train/grad_norm"] == pytest.approx(logged["train/grad_norm"], rel=1e-6)
    assert logged.keys() - {"epoch"} <= in_csv.keys()


def test_no_line_of_the_log(command: Command) -> None:
    assert train(command, "none", "logger=csv", "trainer.log_every_n_steps=0")[0]["training"]["steps"] == 2


def test_early_stopping(command: Command) -> None:
    never = ("callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=100")  # percent points
    arguments = ("callbacks=[early_stopping]", *never, "val.episodes=2", "val.every_n_steps=1", "trainer.max_steps=6")
    result, checkpoint = train(command, "stopped", *arguments, "logger=csv")
    (logged,) = Path("stopped").rglob("metrics.csv")
    before = logged.read_text().splitlines()
    assert result["training"]["steps"] == checkpoint["global_step"] == 2 and result["training"]["episodes"] == 4
    (path,) = Path("stopped").rglob("result.json")
    path.unlink()  # cut off between training and its end
    again, resumed = train(command, "stopped", *arguments, "logger=csv")
    assert sorted(logged.read_text().splitlines()) == sorted(before)
    assert again["training"]["resumed"] and again["training"]["steps"] == 2 and same(resumed, checkpoint)

    accumulated, _ = train(command, "accumulated", *arguments, "trainer.accumulate_grad_batches=2")
    assert accumulated["training"]["steps"] == 2 and accumulated["training"]["episodes"] == 8

    done = command("mshnet-train", *TINY, "callbacks=[early_stopping]", "trainer.max_steps=6")
    assert done.code == 2 and "callbacks=[early_stopping] needs validation: give val.episodes" in done.err


def test_averaged_weights(command: Command) -> None:
    arguments = (
        "callbacks=[ema]",
        "callbacks.ema.decay=0.6",
        "test.checkpoint=best",
        "val.episodes=2",
        "val.every_n_steps=4",
    )
    result, checkpoint = train(command, "whole", *arguments, "trainer.max_steps=4")
    train(command, "recorded", RECORD, *arguments, "trainer.max_steps=4")
    steps = Record.weights
    average = {key: value.double() for key, value in steps[0].items()}
    for weights in steps[1:]:
        average = {key: 0.6 * average[key] + 0.4 * value.double() for key, value in weights.items()}
    moved = 0
    for key, value in checkpoint["state_dict"].items():
        if value.is_floating_point():
            assert torch.allclose(value.double(), average[key], rtol=1e-5, atol=1e-6), key
            moved += not torch.equal(value, steps[-1][key])
        if ".backbone." in key:
            assert torch.equal(value, steps[0][key]), key
    assert moved > 10

    (last,) = Path("whole").rglob("last.ckpt")
    for path in (last, last.with_name("best.ckpt")):
        tested = command(
            "mshnet-test",
            f"ckpt={path}",
            f"runs={path.stem}",
        )
        assert tested.code == 0, tested.err
        (found,) = Path(path.stem).rglob("result.json")
        test = json.loads(found.read_text())["tests"][0]
        aside = {"seconds": 0, "weights": "", "pictures_sha256": None}
        assert {**test, **aside} == {**result["tests"][0], **aside}

    train(command, "half", *arguments, "trainer.max_steps=2", "val.every_n_steps=2")
    (half,) = Path("half").rglob("last.ckpt")
    _, continued = train(command, "rest", *arguments, "trainer.max_steps=4", f"ckpt_path={half}")
    assert continued["global_step"] == 4 and same(continued, checkpoint)
    for key, value in continued["current_model_state"].items():
        assert torch.equal(value, steps[-1][key]), key


def test_what_is_kept_of_weights_follows_their_average() -> None:
    """Lightning swaps weights without telling PyTorch's version counters."""
    torch.manual_seed(0)
    module, averaging = pl.LightningModule(), ExponentialMovingAverage(0.5)
    module.convolution, module.project = nn.Conv2d(4, 5, 3, padding=1), nn.Conv2d(2, 4, 1)
    averaging._average_model = AveragedModel(module)
    x, found = torch.randn(1, 2, 6, 7), []
    with torch.no_grad():
        for weight in module.parameters():
            weight += 1
    for _ in range(3):
        with torch.inference_mode():
            found.append(convolve_projected(module.convolution, [(x, module.project)]))
            torch.testing.assert_close(found[-1], module.convolution(module.project(x)))
            averaging._swap_models(module)
    assert torch.equal(found[0], found[2]) and not torch.allclose(found[0], found[1], atol=0.1)


def test_the_learning_rate_finder_leaves_no_trace(command: Command) -> None:
    finder = ("callbacks=[lr_finder]", "callbacks.lr_finder.num_training_steps=15", "scheduler=exponential")
    result, found = train(command, "found", *finder, RECORD, "trainer.max_steps=4")
    rate = result["training"]["lr"]
    assert 1e-5 <= rate <= 1 and rate != result["config"]["optimizer"]["lr"]
    assert Record.episodes == [[0, 1], [2, 3], [4, 5], [6, 7]] and not [*Path("found").rglob(".lr_find*")]
    _, given = train(command, "given", f"optimizer.lr={rate!r}", "scheduler=exponential", "trainer.max_steps=4")
    assert same(found, given) and found["optimizer_states"][0]["param_groups"][0]["initial_lr"] == rate


@pytest.mark.slow
def test_a_rate_that_was_found_stays_when_training_resumes(command: Command) -> None:
    constant = ("callbacks=[lr_finder]", "callbacks.lr_finder.num_training_steps=15", "scheduler=constant")
    result, whole = train(command, "whole", *constant, "trainer.max_steps=4")
    rate = result["training"]["lr"]
    train(command, "half", *constant, "trainer.max_steps=2")
    (half,) = Path("half").rglob("last.ckpt")
    again, continued = train(command, "rest", *constant, RECORD, "trainer.max_steps=4", f"ckpt_path={half}")
    assert Record.episodes == [[4, 5], [6, 7]] and again["training"]["lr"] == rate and same(continued, whole)


def test_a_search_that_finds_nothing_is_one_message(command: Command, tmp_path: Path) -> None:
    few = ("callbacks=[lr_finder]", "callbacks.lr_finder.num_training_steps=2", "trainer.max_steps=2")
    done = command("mshnet-train", *TINY, *few)
    assert done.code == 2 and "callbacks=[lr_finder]" in done.err and "optimizer.lr" in done.err
    assert not [*tmp_path.rglob("result.json")]


@pytest.mark.parametrize("choices", ["[]", "[ema]", "[ema,early_stopping,lr_finder]"])
def test_choices_compose(choices: str) -> None:
    config.register()
    with hydra.initialize_config_module("mshnet_pl.conf", version_base="1.3"):
        raw = hydra.compose("config", overrides=[f"callbacks={choices}", "val.episodes=1"])
    assert [*(config.typed(raw).callbacks or {})] == [name for name in choices.strip("[]").split(",") if name]
