"""One run: train a configuration, test it, write its result."""

import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import ModelCheckpoint

from mshnet_pl import results
from mshnet_pl.runs import build
from mshnet_pl.evaluation import pictures
from mshnet_pl.utils.hashing import sha256
from mshnet_pl.utils.memory import keep_freed_memory
from mshnet_pl.training.callbacks import LAST, PREVIOUS, NonfiniteGuard, WandbTracker
from mshnet_pl.training.callbacks.save_on_signal import SaveOnSignal
from mshnet_pl.utils.checkpoint_file import fill, read_checkpoint
from mshnet_pl.config import plain, run_digest, typed
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.protocol.sampling import episodes_hash
from mshnet_pl.errors import ConfigError
from mshnet_pl.options import Resolution
from mshnet_pl.utils.signals import Interruption
from mshnet_pl.training.feature_keeper import FeatureKeeper
from mshnet_pl.evaluation.metrics import EpisodeCounts, Scores, scores
from mshnet_pl.training.module import EpisodicModule
from mshnet_pl.utils.distributed import everyones
from mshnet_pl.results import Measurement, Result
from mshnet_pl.config.schema import Config
from mshnet_pl.options import NonFinite

log = logging.getLogger(__name__)


class _Tester:
    """Tests one module on every shot and seed of a configuration."""

    def __init__(
        self, config: Config, trainer: pl.Trainer, datamodule: EpisodeDataModule, folder: Path, keeper: FeatureKeeper
    ) -> None:
        self._config, self._trainer, self._datamodule, self._folder = config, trainer, datamodule, folder
        self._keeper = keeper

    def __call__(self, module: EpisodicModule, weights: str, checkpoint: Path | None = None) -> list[Measurement]:
        test = self._config.test
        return [
            self._measure(module, weights, checkpoint, shot, seed)
            for shot in test.shots or [self._config.shot]
            for seed in test.seeds
        ]

    def _measure(self, module: EpisodicModule, weights: str, checkpoint: Path | None, shot: int, seed: int) -> Measurement:
        test, resolution, guided = self._config.test, self._config.eval.resolution, self._config.eval.guided > 0
        draws = self._datamodule.draws(test.episodes, shot, seed, test.protocol)
        self._datamodule.use_test_episodes(draws, original_size=resolution is Resolution.original, show_queries=guided)
        started = time.perf_counter()
        self._keeper.before_test()
        self._trainer.test(module, datamodule=self._datamodule, ckpt_path=checkpoint, verbose=False, weights_only=True)
        seconds = time.perf_counter() - started
        counts = module.test_counts
        name = f"{weights}_{shot}shot_seed{seed}"
        digest = None
        if self._trainer.is_global_zero:
            digest = results.save_counts(self._folder / f"episodes_{name}.csv", counts.tolist())
        if test.pictures and seed == test.seeds[0]:
            self._draw(module, counts, self._folder / f"pictures_{name}.npz")
        classes = self._datamodule.class_names
        return Measurement(
            weights=weights,
            shot=shot,
            seed=seed,
            protocol=test.protocol.value,
            resolution=resolution.value,
            episodes=len(draws),
            episodes_sha256=episodes_hash(draws),
            seconds=round(seconds, 3),
            counts_sha256=digest,
            **_named(scores(counts), classes),
        )

    def _draw(self, module: EpisodicModule, counts: EpisodeCounts, path: Path) -> None:
        """Keep pictures of the best, median and worst episodes."""
        chosen = pictures.select_episodes(counts, self._config.test.pictures)
        loader = self._datamodule.test_episodes(list(dict.fromkeys(number for number, _ in chosen)))
        bar = self._trainer.progress_bar_callback
        if bar:
            bar.disable()
        predicted = self._trainer.predict(module, loader)
        if bar:
            bar.enable()
        assert isinstance(predicted, list)
        if self._trainer.is_global_zero:
            pictures.save(path, chosen, loader, predicted)  # type: ignore[arg-type]  # predict_step's own


def _named(pooled: Scores, classes: tuple[str, ...]) -> dict[str, Any]:
    """The scores as plain values, classes by name."""
    return {
        key: {classes[c]: v for c, v in value.items()} if isinstance(value, dict) else value
        for key, value in pooled._asdict().items()
    }


def _begin(config: Config) -> None:
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    results.git_revision()
    keep_freed_memory()
    pl.seed_everything(config.seed, verbose=False)


def train(raw: DictConfig, folder: Path) -> Result:
    """Train and test one configuration.

    A run that was cut off goes on from its last checkpoint.

    Args:
        raw: the composed configuration.
        folder: the run's own folder.

    Raises:
        UserError: what the user can mend.
        Interrupted: a signal asked for the end, and a checkpoint is saved.
    """
    with Interruption() as interruption:
        return _train(raw, folder, interruption)


def _train(raw: DictConfig, folder: Path, interruption: Interruption) -> Result:
    started = time.perf_counter()
    config = typed(raw)
    _begin(config)
    datamodule = build.make_datamodule(raw, config)
    datamodule.setup()
    module = build.make_module(raw, config)
    trainer = build.make_trainer(raw, config, folder)
    learnable = module.method.learnable_parameters()
    datamodule.check_supply(config.test.shots or [config.shot], training=bool(learnable) and trainer.max_steps != 0)
    if trainer.max_steps == -1 and trainer.max_epochs in (-1, None):
        raise ConfigError("training would never end: give trainer.max_steps or trainer.max_epochs")
    resume = _checkpoint_to_resume(config, folder)
    keeper = FeatureKeeper(trainer, module, datamodule, config.data.feature_cache, config.test.feature_mb)
    tester = _Tester(config, trainer, datamodule, folder, keeper)
    tests, training = [], {"steps": 0, "seconds": 0.0}
    if learnable and config.test.untrained:
        tests += tester(module, "untrained")
    if learnable and trainer.max_steps != 0:
        keeper.before_training()
        finite = NonfiniteGuard(folder, skip=config.loss.nonfinite is NonFinite.skip)
        saving = SaveOnSignal(interruption, folder / "checkpoints" / LAST)
        trainer.callbacks += [finite, saving]  # type: ignore[attr-defined]
        training = {**_fit(config, trainer, module, datamodule, folder, resume), "skipped_steps": finite.skipped}
        tests += tester(module, config.test.checkpoint.value, _chosen(config, folder))
    else:
        tests += tester(module, "untrained" if learnable else "training-free")
    result = _result("train", raw, datamodule, trainer, module, training, tests, time.perf_counter() - started)
    if trainer.is_global_zero:
        log.info("result: %s", results.save(folder, result))
        _conclude(trainer, folder, result)
    return result


def _checkpoint_to_resume(config: Config, folder: Path) -> Path | None:
    """Where training goes on: the newest whole checkpoint of this folder, or else the one that ``ckpt_path`` names.

    Raises:
        ConfigError: no checkpoint that training can go on from, or a new start would overwrite one.
    """
    kept = [path for name in (LAST, PREVIOUS) if (path := folder / "checkpoints" / name).exists()]
    if kept and config.ckpt_path is None:
        raise ConfigError(
            f"ckpt_path=null would overwrite {kept[0]}; leave ckpt_path=last to go on from it, or move the folder away"
        )
    problems = []
    for path in kept:
        try:
            return _resumable(path)
        except ConfigError as error:
            problems.append(str(error))
            log.warning("%s; it is left out", error)
    if problems:
        raise ConfigError("\n".join([*problems, f"no other checkpoint in {folder}; move the folder away to start anew"]))
    return None if config.ckpt_path in (None, "last") else _resumable(Path(config.ckpt_path), "ckpt_path")


def _resumable(path: Path, setting: str = "ckpt") -> Path:
    """The path, once the file was read whole.

    Raises:
        ConfigError: it is damaged, hostile or no checkpoint of a training.
    """
    if "optimizer_states" not in read_checkpoint(path, setting):
        raise ConfigError(f"{setting}={path} holds a network, but no state of a training; give it to mshnet-test as ckpt=")
    return path


def _fit(
    config: Config,
    trainer: pl.Trainer,
    module: EpisodicModule,
    datamodule: EpisodeDataModule,
    folder: Path,
    resume: Path | None,
) -> dict[str, Any]:
    """Train, from ``resume`` if given."""
    if resume is not None:
        log.info("going on from %s", resume)
    started = time.perf_counter()
    trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    seconds = time.perf_counter() - started
    trainer.save_checkpoint(folder / "checkpoints" / LAST)
    return {
        "steps": trainer.global_step,
        "episodes": trainer.global_step * config.data.batch_size * trainer.accumulate_grad_batches * trainer.world_size,
        "seconds": round(seconds, 3),
        "resumed": resume is not None,
        "replaced_episodes": sum(everyones(trainer.train_dataloader.replaced)),  # type: ignore[union-attr]  # our stream
        **({} if module.lr is None else {"lr": module.lr}),
        "checkpoint": config.test.checkpoint.value,
        "checkpoint_sha256": sha256(_chosen(config, folder)) if trainer.is_global_zero else None,
        **_validated(config, trainer),
    }


def _validated(config: Config, trainer: pl.Trainer) -> dict[str, Any]:
    """On which classes there was validation, and the best and the newest mIoU there, in percent."""
    if not config.val.episodes:
        return {"val_classes": None}
    best = next(c.best_model_score for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.monitor)
    known = {"best": best, "newest": trainer.callback_metrics.get("val/miou")}
    miou = {name: None if score is None else round(float(score), 3) for name, score in known.items()}
    return {"val_classes": config.val.classes.value, "val_miou": miou}


def _chosen(config: Config, folder: Path) -> Path:
    return folder / "checkpoints" / f"{config.test.checkpoint.value}.ckpt"


def test(raw: DictConfig, folder: Path) -> Result:
    """Test a checkpoint.

    Args:
        raw: the checkpoint's configuration with the command line's changes; ``ckpt`` names the file.
        folder: the run's own folder.

    Raises:
        UserError: what the user can mend.
        Interrupted: a signal asked for the end.
    """
    with Interruption():
        return _test(raw, folder)


def _test(raw: DictConfig, folder: Path) -> Result:
    started = time.perf_counter()
    config = typed(raw)
    assert config.ckpt is not None
    path = Path(config.ckpt)
    _begin(config)
    datamodule = build.make_datamodule(raw, config)
    datamodule.setup()
    module = build.make_module(without_weights(raw), config)
    checkpoint = read_checkpoint(path)
    fill(module, path, checkpoint)
    trainer = build.make_trainer(raw, config, folder)
    keeper = FeatureKeeper(trainer, module, datamodule, config.data.feature_cache, config.test.feature_mb)
    tests = _Tester(config, trainer, datamodule, folder, keeper)(module, path.stem)
    hyper_parameters = checkpoint["hyper_parameters"]
    trained = hyper_parameters["config"]
    training = {
        "checkpoint": str(path),
        "checkpoint_sha256": sha256(path),
        "fold": trained["fold"],
        "shot": None if "origin" in hyper_parameters else trained["shot"],  # a converted file does not tell
        "data": (trained["data"]["source"] or {}).get("_target_"),
    }
    result = _result("test", raw, datamodule, trainer, module, training, tests, time.perf_counter() - started)
    if trainer.is_global_zero:
        log.info("result: %s", results.save(folder, result))
        _conclude(trainer, folder, result)
    return result


def _result(
    command: str,
    raw: DictConfig,
    datamodule: EpisodeDataModule,
    trainer: pl.Trainer,
    module: EpisodicModule,
    training: Mapping[str, Any],
    tests: list[Measurement],
    seconds: float,
) -> Result:
    return Result(
        command=command,
        config_hash=run_digest(raw),
        config=plain(raw),
        novel=[datamodule.class_names[c] for c in datamodule.fold.novel],
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
        bad_files={name: problem for known in everyones(datamodule.bad) for name, problem in known.items()},
    )


def _conclude(trainer: pl.Trainer, folder: Path, result: Result) -> None:
    """Hand the result to the loggers that keep one."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbTracker):
            logger.conclude(folder, result)


def without_weights(raw: DictConfig) -> DictConfig:
    """The configuration with the backbone left as initialised, for a checkpoint's weights to fill."""
    copy = raw.copy()
    if "weights" in copy.backbone:
        copy.backbone.weights = "random"
    return copy


def write_checkpoint(module: EpisodicModule, path: Path) -> None:
    """A checkpoint in the form that ``mshnet-train`` writes, of a module that was not trained here."""
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path, weights_only=True)
