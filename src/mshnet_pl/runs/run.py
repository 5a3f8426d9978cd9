"""One run: train a configuration, test it, write its result."""

import logging
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from mshnet_pl import results
from mshnet_pl.config import plain
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.loading.loaders import EpisodeStream
from mshnet_pl.errors import ConfigError
from mshnet_pl.inference import as_checkpoint, lineage, pretrained
from mshnet_pl.options import NonFinite, Which
from mshnet_pl.results import Measurement, Result
from mshnet_pl.runs import announce, build, start
from mshnet_pl.runs.job import Run
from mshnet_pl.runs.tester import Tester
from mshnet_pl.training.callbacks import LAST, NonfiniteGuard, WandbTracker
from mshnet_pl.training.callbacks.save_on_signal import SaveOnSignal
from mshnet_pl.training.feature_keeper import FeatureKeeper
from mshnet_pl.training.module import EpisodicModule
from mshnet_pl.training.plan import planned_batches, planned_steps
from mshnet_pl.utils.checkpoint_file import fill, read_checkpoint
from mshnet_pl.utils.distributed import gather_objects
from mshnet_pl.utils.hashing import sha256
from mshnet_pl.utils.memory import keep_freed_memory
from mshnet_pl.utils.signals import Interruption

log = logging.getLogger(__name__)


def _begin(run: Run) -> None:
    config = run.config
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    results.git_revision()
    keep_freed_memory()
    pl.seed_everything(config.seed, verbose=False)


def train(run: Run) -> Result:
    """Train and test; an interrupted run resumes from its last checkpoint.

    Raises:
        UserError: what the user can mend.
        Interrupted: a signal asked for the end, and a checkpoint is saved.
    """
    with Interruption() as interruption:
        return _train(run, interruption)


def _train(run: Run, interruption: Interruption) -> Result:
    started, config = time.perf_counter(), run.config
    _begin(run)
    datamodule = build.make_datamodule(run)
    datamodule.setup()
    module = build.make_module(run, pretrained=config.init_from is None)
    past = start.take_weights(run, module)
    trainer = build.make_trainer(run)
    trainable = module.method.learnable_parameters()
    datamodule.check_supply(config.test.shots or [config.shot], training=bool(trainable) and trainer.max_steps != 0)
    if trainer.max_steps == -1 and trainer.max_epochs in (-1, None):
        raise ConfigError("training would never end: give trainer.max_steps or trainer.max_epochs")
    _check_controls(run, datamodule)
    if trainable and trainer.max_steps != 0 and config.test.checkpoint is Which.best:
        _check_validated(run, trainer, datamodule)
    resume = start.checkpoint_to_resume(run, trainer)
    start.take_backbone(module, resume)
    keeper = FeatureKeeper(trainer, module, datamodule, config.data.feature_cache, config.test.feature_mb)
    tester = Tester(run, trainer, datamodule, keeper)
    begun_at = 0 if resume is None else int(read_checkpoint(resume)["global_step"])
    log.info("%s", announce.beginning(run, datamodule, module, trainer, begun_at))
    tests: list[Measurement] = []
    training: dict[str, Any] = {"steps": 0, "seconds": 0.0}
    beginning = "start" if past else "untrained"
    if trainable and config.test.untrained:
        tests += tester(module, beginning)
    if trainable and trainer.max_steps != 0:
        past = start.list_trainings(run, module, datamodule, resume, past)
        keeper.before_training()
        finite = NonfiniteGuard(run.folder, skip=config.loss.nonfinite is NonFinite.skip)
        saving = SaveOnSignal(interruption, run.folder / "checkpoints" / LAST)
        trainer.callbacks += [finite, saving]  # type: ignore[attr-defined]
        training = {**_fit(run, trainer, module, datamodule, resume), "skipped_steps": finite.skipped}
        tests += tester(module, config.test.checkpoint.value, _chosen(run))
    else:
        tests += tester(module, beginning if trainable else "training-free")
    training |= lineage.record(past, plain(run.raw), datamodule.tested_classes)
    return _concluded("train", run, datamodule, trainer, module, training, tests, time.perf_counter() - started)


def _check_controls(run: Run, datamodule: EpisodeDataModule) -> None:
    """Refuse control episodes that cannot be drawn.

    Raises:
        DataError: there is no other class to show.
    """
    test = run.config.test
    for shot in (test.shots or [run.config.shot]) if test.controls else ():
        for seed in test.seeds:
            datamodule.use_test_episodes(datamodule.draws(test.episodes, shot, seed, test.protocol))
            datamodule.control_episodes(test.controls, shot, seed)


def _check_validated(run: Run, trainer: pl.Trainer, datamodule: EpisodeDataModule) -> None:
    """Refuse a training without the validation that chooses the best checkpoint.

    Raises:
        ConfigError: training ends too early.
    """
    every, size = run.config.val.every_n_steps, trainer.accumulate_grad_batches
    an_epoch = max(len(datamodule.train_dataloader()) // trainer.world_size, 1)  # it knows no other process yet
    batches = planned_batches(trainer, an_epoch)
    if batches >= every * size:
        return
    steps = planned_steps(trainer, an_epoch)
    name = "max_steps" if steps == trainer.max_steps else "max_epochs"
    way_out = f"val.every_n_steps={batches // size}" if batches >= size else "a larger limit"
    raise ConfigError(
        f"val.every_n_steps={every}: trainer.{name}={getattr(trainer, name)} ends before the first validation, and "
        f"test.checkpoint=best needs one; give {way_out}, or test.checkpoint=last"
    )


def _fit(
    run: Run, trainer: pl.Trainer, module: EpisodicModule, datamodule: EpisodeDataModule, resume: Path | None
) -> dict[str, Any]:
    """Train, from ``resume`` if given."""
    if resume is not None:
        log.info("resuming from %s", os.path.relpath(resume))
    started = time.perf_counter()
    trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    seconds = time.perf_counter() - started
    trainer.save_checkpoint(run.folder / "checkpoints" / LAST)
    loader = cast("EpisodeStream", trainer.train_dataloader)
    return {
        "steps": trainer.global_step,
        "planned_steps": module.planned_steps,
        "episodes": loader.state_dict()["batches"] * run.config.data.batch_size * trainer.world_size,
        "seconds": round(seconds, 3),
        "resumed": resume is not None,
        "replaced_episodes": sum(gather_objects(loader.replaced)),
        **({} if module.lr is None else {"lr": module.lr}),
        "checkpoint": run.config.test.checkpoint.value,
        "checkpoint_sha256": sha256(_chosen(run)) if trainer.is_global_zero else None,
        **_validated(run, trainer),
    }


def _validated(run: Run, trainer: pl.Trainer) -> dict[str, Any]:
    """On which classes there was validation, and the best and the newest mIoU there, in percent."""
    if not run.config.val.episodes:
        return {"val_classes": None}
    best = next(c.best_model_score for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor)
    known = {"best": best, "newest": trainer.callback_metrics.get("val/miou")}
    miou = {name: None if score is None else round(float(score), 3) for name, score in known.items()}
    return {"val_classes": run.config.val.classes.value, "val_miou": miou}


def _chosen(run: Run) -> Path:
    return run.folder / "checkpoints" / f"{run.config.test.checkpoint.value}.ckpt"


def test(run: Run) -> Result:
    """Test the network that ``ckpt`` names; the run's configuration is its own with the command line's changes.

    Raises:
        UserError: what the user can mend.
        Interrupted: a signal asked for the end.
    """
    with Interruption():
        return _test(run)


def _test(run: Run) -> Result:
    started, config = time.perf_counter(), run.config
    assert config.ckpt is not None
    path, checkpoint = Path(config.ckpt), as_checkpoint.read(config.ckpt)
    with torch.device("meta"):  # takes no memory, whatever sizes a stranger's file has
        fill(build.make_module(run, pretrained=False), path, checkpoint)
    _begin(run)
    datamodule = build.make_datamodule(run)
    datamodule.setup()
    module = build.make_module(run, pretrained=False)
    fill(module, path, checkpoint)
    datamodule.check_supply(config.test.shots or [config.shot], training=False)
    _check_controls(run, datamodule)
    trainer = build.make_trainer(run)
    keeper = FeatureKeeper(trainer, module, datamodule, config.data.feature_cache, config.test.feature_mb)
    log.info("%s", announce.beginning(run, datamodule, module, trainer))
    trainable = module.method.learnable_parameters()
    tests = Tester(run, trainer, datamodule, keeper)(module, path.stem if trainable else "training-free")
    stored = checkpoint["hyper_parameters"]
    training = {
        "checkpoint": str(path),
        "checkpoint_sha256": pretrained.digest(config.ckpt),
        "shot": None if "origin" in stored else stored["config"].get("shot"),  # not every file tells
        **lineage.record(lineage.trainings(stored, f"ckpt={path}"), plain(run.raw), datamodule.tested_classes),
    }
    return _concluded("test", run, datamodule, trainer, module, training, tests, time.perf_counter() - started)


def _concluded(
    command: str,
    run: Run,
    datamodule: EpisodeDataModule,
    trainer: pl.Trainer,
    module: EpisodicModule,
    training: Mapping[str, Any],
    tests: list[Measurement],
    seconds: float,
) -> Result:
    """The result, once it is saved and the loggers that keep one have it."""
    result = Result(
        command=command,
        config_hash=run.digest,
        config=plain(run.raw),
        novel=[
            name
            for name in datamodule.tested_classes
            if datamodule.fold.novel or name not in training["tested_classes_trained"]
        ],
        splits=datamodule.splits,
        removed_images=datamodule.removed,
        learnable_parameters=module.method.learnable_parameters(),
        training=dict(training),
        tests=tests,
        wall_seconds=round(seconds, 3),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=results.versions(),
        machine=results.machine(str(trainer.strategy.root_device)),
        git=results.git_revision(),
        metric=results.METRIC,
        data_sha256=datamodule.content,
        bad_files={name: problem for known in gather_objects(datamodule.bad) for name, problem in known.items()},
    )
    if trainer.is_global_zero:
        log.info("result: %s", os.path.relpath(results.save(run.folder, result)))
        for logger in trainer.loggers:
            if isinstance(logger, WandbTracker):
                logger.conclude(run.folder, result)
    return result
