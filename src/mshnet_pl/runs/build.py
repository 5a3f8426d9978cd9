"""From a configuration to objects: the only place that instantiates."""

import logging
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import Logger

from mshnet_pl.config import Config, plain
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.loading.augmentation import Augment
from mshnet_pl.data.sources import AbstractSource, Pascal5i
from mshnet_pl.errors import ConfigError, UserError
from mshnet_pl.evaluation.energy import EnergyPicture
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.options import EVERY_FOLD, NovelPixels
from mshnet_pl.report import energy_plots
from mshnet_pl.runs.job import Run
from mshnet_pl.training.callbacks import AtomicCheckpoints, Monitor, ProgressBar, ValidationPanels, WandbTracker
from mshnet_pl.training.module import EpisodicModule
from mshnet_pl.training.tensorboard_logger import TensorBoardTracker
from mshnet_pl.utils.setting_keys import with_key

log = logging.getLogger(__name__)


def _make(raw: DictConfig, key: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the _target_ there is
    """Instantiate the node at ``key``; what its constructor refuses becomes a message with the setting's full key.

    Raises:
        UserError: as the constructor raised it, or a ``ConfigError`` around what it raised.
    """
    try:
        return instantiate(OmegaConf.select(raw, key), *args, _convert_="all", **kwargs)
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        places = [line.removeprefix("full_key: ") for line in str(error).splitlines() if line.startswith("full_key: ")]
        place = places[0] if places else key
        message = str(cause or error)
        named = with_key(message, place, plain(raw, resolve=False))
        of = f" of ckpt={raw.ckpt}" if raw.get("ckpt") else ""
        raise ConfigError(f"{message} (in {place}{of})" if named == message else named) from error


def make_source(run: Run) -> AbstractSource:
    """The run's images.

    Raises:
        UserError: a setting or a data root that cannot work.
    """
    if run.config.data.source is None:
        raise ConfigError("data.source=null: give a data set, data=pascal5i data.root=DIR for one")
    source: AbstractSource = _make(run.raw, "data.source")
    return source


def make_datamodule(run: Run) -> EpisodeDataModule:
    """The run's data module.

    Raises:
        UserError: a setting or a data root that cannot work.
    """
    config = run.config
    return EpisodeDataModule(
        make_source(run),
        fold=config.fold,
        shot=config.shot,
        way=config.way,
        seed=config.seed,
        image_size=config.data.image_size,
        batch_size=config.data.batch_size,
        num_workers=config.data.num_workers,
        novel_pixels=config.data.novel_pixels,
        min_images=config.data.min_images,
        bad_files=config.data.bad_files,
        val_classes=config.val.classes,
        val_heldout=config.val.heldout,
        val_episodes=config.val.episodes,
        cache_mb=config.data.cache_mb,
        cache_dir=config.data.cache_dir,
        augment=Augment(config.seed, **vars(config.data.augment)),
    )


def make_method(raw: DictConfig, pretrained: bool = True) -> AbstractMethod:
    """The network alone.

    Args:
        raw: the composed configuration.
        pretrained: fill the backbone as ``backbone.weights`` says; False where a checkpoint's weights will.

    Raises:
        UserError: a setting that cannot work, or weights that do not fit.
    """
    if not pretrained and "weights" in raw.backbone:
        raw = raw.copy()
        raw.backbone.weights = "random"
    method = _make(raw, "model")
    if not isinstance(method, AbstractMethod):
        raise ConfigError(f"model._target_={raw.model._target_}: not an AbstractMethod")
    return method


def make_module(run: Run, pretrained: bool = True) -> EpisodicModule:
    """The method with its loss, optimizer and schedule; ``pretrained`` as for ``make_method``.

    Raises:
        UserError: a setting that cannot work, or weights that do not fit.
    """
    raw, config = run.raw, run.config
    optimizer, schedule = _make(raw, "optimizer"), _make(raw, "scheduler")
    with torch.device("cpu"):  # the network's own may be one without numbers
        _try(optimizer, schedule)
    return EpisodicModule(
        make_method(raw, pretrained),
        optimizer=optimizer,
        schedule=schedule,
        inner_weight=config.loss.inner_weight,
        ignore_unknown=config.loss.ignore_unknown or config.data.novel_pixels is NovelPixels.ignore,
        foreground_weight=config.loss.foreground_weight,
        loss_grid=config.loss.grid,
        criterion=config.loss.criterion,
        seed=config.seed,
        config=plain(raw, resolve=False),
        flip=config.eval.flip,
        scales=config.eval.scales,
        fusion=config.eval.fusion,
        guided=config.eval.guided,
        zooms=config.eval.zooms,
        fold=config.fold if _tests_pascal(run) else EVERY_FOLD,
        groups=config.groups,
    )


def _tests_pascal(run: Run) -> bool:
    """Whether the tests are of PASCAL-5i, whose masks have taught what makes masks of marks."""
    target = OmegaConf.select(run.raw, "data.source._target_")
    return target is not None and issubclass(get_class(target), Pascal5i)


def _try(optimizer: Any, schedule: Any) -> None:  # noqa: ANN401 - what the configuration makes
    """Make a step of nothing, so that settings which torch refuses are a message before any work.

    Raises:
        ConfigError: says which of the two refused.
    """
    nothing = torch.nn.Parameter(torch.zeros(1))
    nothing.grad = torch.zeros(1)
    group = "optimizer"
    try:
        made = optimizer([nothing])
        group = "scheduler"
        steps = schedule(made, total_steps=2, steps_per_epoch=1)
        group = "optimizer"
        made.step()
        group = "scheduler"
        steps.step()
    except Exception as error:  # whatever their constructors raise
        raise ConfigError(f"{error or type(error).__name__} (in {group})") from error


def _make_logger(run: Run) -> Logger | None:
    raw = run.raw
    try:
        logger: Logger | None = _make(raw, "logger")(save_dir=run.folder) if raw.logger else None
    except (ImportError, TypeError) as error:
        raise ConfigError(f"logger={raw.logger._target_}: {error}; correct logger.*, or take logger=csv") from error
    if isinstance(logger, WandbTracker):
        logger.describe(plain(raw))
    return logger


def make_trainer(run: Run) -> pl.Trainer:
    """Lightning's trainer, with checkpoints, progress bar and logger.

    Raises:
        UserError: a setting that Lightning refuses, or fewer episodes than processes.
    """
    raw, config = run.raw, run.config
    checkpoints = run.folder / "checkpoints"
    callbacks: list[pl.Callback] = [
        ModelCheckpoint(
            checkpoints, filename="last", every_n_train_steps=config.save_every_n_steps, enable_version_counter=False
        ),
    ]
    if config.val.episodes:
        callbacks.append(
            ModelCheckpoint(checkpoints, filename="best", monitor="val/miou", mode="max", enable_version_counter=False)
        )
    if raw.trainer.enable_progress_bar:
        callbacks.append(ProgressBar())
    if config.ckpt is None:  # tests need none of these
        callbacks += [_make(raw, f"callbacks.{name}") for name in raw.callbacks or {}]
    logger = _make_logger(run)
    if logger:
        callbacks += [LearningRateMonitor(), Monitor(config.data.batch_size)]
    if isinstance(logger, (TensorBoardTracker, WandbTracker)):
        callbacks.append(ValidationPanels(logger, _energy_image))
    trainer: pl.Trainer = _make(
        raw,
        "trainer",
        callbacks=callbacks,
        plugins=[AtomicCheckpoints(run.folder)],
        logger=logger or False,
        default_root_dir=run.folder,
        use_distributed_sampler=False,  # the streams and test episodes share themselves out
        num_sanity_val_steps=0,
        limit_val_batches=None if config.val.episodes else 0,
        check_val_every_n_epoch=None,
        val_check_interval=_batches_between_validations(config) if config.val.episodes else None,
        **({"max_steps": 0} if config.trainer.get("max_epochs") == 0 else {}),
    )
    for key, episodes in (("val.episodes", config.val.episodes), ("test.episodes", config.test.episodes)):
        if 0 < episodes < trainer.world_size:
            raise ConfigError(f"{key}={episodes}: give at least one to each of the {trainer.world_size} processes")
    if str(trainer.precision).startswith("bf16") and trainer.strategy.root_device.type == "cpu" and _emulates_bf16():
        log.warning(
            "trainer.precision=%s: this processor has no instructions for bf16 and computes it several times slower than "
            "trainer.precision=32-true",
            trainer.precision,
        )
    return trainer


def _batches_between_validations(config: Config) -> int:
    """Lightning counts batches, of which an optimizer step may take several."""
    return config.val.every_n_steps * int(config.trainer.get("accumulate_grad_batches", 1))


def _energy_image(picture: EnergyPicture) -> np.ndarray:
    """A validation episode's energy maps, (height, width, 3) uint8."""
    return energy_plots.rasterise(energy_plots.draw([picture]))


def _emulates_bf16() -> bool:
    """Whether this is known to be an x86 processor that computes bf16 with other instructions; older PyTorch cannot tell."""
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return known.get("architecture") == "x86_64" and not (known.get("avx512_bf16") or known.get("amx_bf16"))
