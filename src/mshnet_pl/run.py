"""One run: train a configuration, test it, write its result."""

import hashlib
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig

from mshnet_pl import build, results
from mshnet_pl.callbacks import Pictures, Tracker
from mshnet_pl.config import Config, Resolution, Which, config_hash, plain, typed
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.sampler import episodes_hash
from mshnet_pl.errors import ConfigError
from mshnet_pl.metrics import Scores, scores
from mshnet_pl.module import EpisodicModule
from mshnet_pl.results import Measurement, Result

log = logging.getLogger(__name__)


class _Tester:
    """Tests one module on every shot and seed of a configuration."""

    def __init__(self, config: Config, trainer: pl.Trainer, datamodule: EpisodeDataModule, folder: Path) -> None:
        self._config, self._trainer, self._datamodule, self._folder = config, trainer, datamodule, folder

    def __call__(self, module: EpisodicModule, weights: str) -> list[Measurement]:
        test = self._config.test
        return [
            self._measure(module, weights, shot, seed) for shot in test.shots or [self._config.shot] for seed in test.seeds
        ]

    def _measure(self, module: EpisodicModule, weights: str, shot: int, seed: int) -> Measurement:
        test, resolution = self._config.test, self._config.eval.resolution
        draws = self._datamodule.draws(test.episodes, shot, seed, test.protocol)
        self._datamodule.use_test_episodes(draws, original_size=resolution is Resolution.original)
        started = time.perf_counter()
        self._trainer.test(module, datamodule=self._datamodule, verbose=False, weights_only=True)
        seconds = time.perf_counter() - started
        with module.test_iou.sync_context():
            counts = module.test_iou.counts().cpu()
        if self._trainer.is_global_zero:
            name = f"{weights}_{shot}shot_seed{seed}"
            results.save_counts(self._folder / f"episodes_{name}.csv", counts.tolist())
            for callback in self._trainer.callbacks:  # type: ignore[attr-defined]  # Lightning sets it untyped
                if isinstance(callback, Pictures):
                    callback.save(self._folder / f"pictures_{name}.npz")
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
            **_named(scores(counts), classes),
        )


def _named(pooled: Scores, classes: tuple[str, ...]) -> dict[str, Any]:
    """The scores as plain values, classes by name."""
    return {
        key: {classes[c]: v for c, v in value.items()} if isinstance(value, dict) else value
        for key, value in pooled._asdict().items()
    }


def train(raw: DictConfig, folder: Path) -> Result:
    """Train and test one configuration, or return the result that it already has.

    A run that was cut off goes on from its last checkpoint.

    Args:
        raw: the composed configuration.
        folder: the run's own folder.

    Raises:
        UserError: what the user can mend; nothing was trained then.
    """
    started = time.perf_counter()
    config = typed(raw)
    digest = config_hash(plain(raw))
    done = results.finished(folder, digest)
    if done is not None:
        log.info("already done: %s", folder / results.FILE)
        return done
    pl.seed_everything(config.seed, verbose=False)
    datamodule = build.make_datamodule(raw, config)
    datamodule.setup()
    module = build.make_module(raw, config)
    trainer = build.make_trainer(raw, config, folder)
    learnable = module.method.learnable_parameters()
    datamodule.check_supply(config.test.shots or [config.shot], training=bool(learnable) and trainer.max_steps != 0)
    if trainer.max_steps == -1 and trainer.max_epochs in (-1, None):
        raise ConfigError("training would never end: give trainer.max_steps or trainer.max_epochs")
    resume = _checkpoint_to_resume(config, folder)
    tester = _Tester(config, trainer, datamodule, folder)
    tests, training = [], {"steps": 0, "seconds": 0.0}
    if learnable and config.test.untrained:
        tests += tester(module, "untrained")
    if learnable and trainer.max_steps != 0:
        training = _fit(config, trainer, module, datamodule, folder, resume)
        tests += tester(module, config.test.checkpoint.value)
    else:
        tests += tester(module, "untrained" if learnable else "training-free")
    result = _result("train", plain(raw), digest, datamodule, module, training, tests, time.perf_counter() - started)
    if trainer.is_global_zero:
        log.info("result: %s", results.save(folder, result))
        _conclude(trainer, folder, result)
    return result


def _checkpoint_to_resume(config: Config, folder: Path) -> Path | None:
    """Where training goes on: this folder's last checkpoint if there is one, or the one that ``ckpt_path`` names.

    Raises:
        ConfigError: no such file, or a new start would overwrite a checkpoint.
    """
    last = folder / "checkpoints" / "last.ckpt"
    if last.exists() and config.ckpt_path is None:
        raise ConfigError(
            f"ckpt_path=null would overwrite {last}; leave ckpt_path=last to go on from it, or move the folder away"
        )
    if last.exists() or config.ckpt_path in (None, "last"):
        return last if last.exists() else None
    if not Path(config.ckpt_path).is_file():
        raise ConfigError(f"ckpt_path={config.ckpt_path}: no such file; give a checkpoint, 'last' or null")
    return Path(config.ckpt_path)


def _fit(
    config: Config,
    trainer: pl.Trainer,
    module: EpisodicModule,
    datamodule: EpisodeDataModule,
    folder: Path,
    resume: Path | None,
) -> dict[str, Any]:
    """Train, from ``resume`` if given; leaves the chosen checkpoint's weights in the module."""
    if resume is not None:
        log.info("going on from %s", resume)
    last = folder / "checkpoints" / "last.ckpt"
    started = time.perf_counter()
    trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    seconds = time.perf_counter() - started
    trainer.save_checkpoint(last)
    chosen = folder / "checkpoints" / f"{config.test.checkpoint.value}.ckpt"
    if config.test.checkpoint is Which.best:
        module.load_state_dict(read_checkpoint(chosen)["state_dict"])
    return {
        "steps": trainer.global_step,
        "episodes": trainer.global_step * config.data.batch_size * trainer.accumulate_grad_batches * trainer.world_size,
        "seconds": round(seconds, 3),
        "resumed": resume is not None,
        "checkpoint": config.test.checkpoint.value,
        "checkpoint_sha256": sha256(chosen) if trainer.is_global_zero else None,
        "val_classes": config.val.classes.value if config.val.episodes else None,
    }


def test(raw: DictConfig, folder: Path) -> Result:
    """Test a checkpoint, or return the result that this configuration already has.

    Args:
        raw: the checkpoint's configuration with the command line's changes; ``ckpt`` names the file.
        folder: the run's own folder.

    Raises:
        UserError: what the user can mend.
    """
    started = time.perf_counter()
    config = typed(raw)
    assert config.ckpt is not None
    path = Path(config.ckpt)
    digest = config_hash({**plain(raw), "ckpt": sha256(path)})
    done = results.finished(folder, digest)
    if done is not None:
        log.info("already done: %s", folder / results.FILE)
        return done
    pl.seed_everything(config.seed, verbose=False)
    datamodule = build.make_datamodule(raw, config)
    datamodule.setup()
    module = build.make_module(without_weights(raw), config)
    module.load_state_dict(read_checkpoint(path)["state_dict"])
    trainer = build.make_trainer(raw, config, folder)
    tests = _Tester(config, trainer, datamodule, folder)(module, path.stem)
    training = {"checkpoint": str(path), "checkpoint_sha256": sha256(path)}
    result = _result("test", plain(raw), digest, datamodule, module, training, tests, time.perf_counter() - started)
    if trainer.is_global_zero:
        log.info("result: %s", results.save(folder, result))
        _conclude(trainer, folder, result)
    return result


def _result(
    command: str,
    config: dict[str, Any],
    digest: str,
    datamodule: EpisodeDataModule,
    module: EpisodicModule,
    training: Mapping[str, Any],
    tests: list[Measurement],
    seconds: float,
) -> Result:
    return Result(
        command=command,
        config_hash=digest,
        config=config,
        novel=[datamodule.class_names[c] for c in datamodule.fold.novel],
        splits=datamodule.splits,
        removed_images=datamodule.removed,
        learnable_parameters=module.method.learnable_parameters(),
        training=dict(training),
        tests=tests,
        wall_seconds=round(seconds, 3),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=results.versions(),
        machine=results.machine(str(module.device)),
        git=results.git_revision(),
    )


def _conclude(trainer: pl.Trainer, folder: Path, result: Result) -> None:
    """Hand the result to the loggers that keep one."""
    for logger in trainer.loggers:
        if isinstance(logger, Tracker):
            logger.conclude(folder, result)


def without_weights(raw: DictConfig) -> DictConfig:
    """The configuration with the backbone left as initialised, for a checkpoint's weights to fill."""
    copy = raw.copy()
    if "weights" in copy.backbone:
        copy.backbone.weights = "random"
    return copy


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of ``mshnet-train``, read without executing anything in it.

    Raises:
        ConfigError: no such file, or none of ours.
    """
    if not path.is_file():
        raise ConfigError(f"ckpt={path}: no such file; give a checkpoint that mshnet-train wrote")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["state_dict"], checkpoint["hyper_parameters"]["config"]
    except Exception as error:  # a damaged or hostile file raises almost anything
        raise ConfigError(f"ckpt={path} is not a checkpoint of mshnet-train: {error}") from error
    return dict(checkpoint)


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
