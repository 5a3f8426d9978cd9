"""Where training starts: at the run's own last checkpoint, with another training's state, or from weights alone."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from mshnet_pl.config import other_training, plain
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.errors import ConfigError
from mshnet_pl.inference import lineage
from mshnet_pl.results import Training
from mshnet_pl.runs.job import Run
from mshnet_pl.training.callbacks import LAST, PREVIOUS
from mshnet_pl.training.module import EpisodicModule
from mshnet_pl.utils.checkpoint_file import fill, read_checkpoint

log = logging.getLogger(__name__)

_BACKBONE = "method.backbone."


def take_weights(run: Run, module: EpisodicModule) -> list[Training]:
    """Give the network the weights that ``init_from`` names, if it names some.

    Returns:
        The trainings that they went through.

    Raises:
        ConfigError: no checkpoint, or one of another network.
    """
    if run.config.init_from is None:
        return []
    path = Path(run.config.init_from)
    checkpoint = read_checkpoint(path, "init_from")
    try:
        fill(module, path, checkpoint, "init_from")
    except ConfigError as error:
        own, stored = plain(run.raw, resolve=False), checkpoint["hyper_parameters"]["config"]
        networks = [{key: config.get(key) for key in ("backbone", "model", "similarity")} for config in (stored, own)]
        raise ConfigError("\n".join([str(error), *other_training(*networks)])) from error
    return lineage.trainings(checkpoint["hyper_parameters"], f"init_from={path}")


def checkpoint_to_resume(run: Run, trainer: pl.Trainer) -> Path | None:
    """Where training resumes: the newest whole checkpoint of this folder, or else the one that ``ckpt_path`` names.

    Raises:
        ConfigError: no checkpoint that training can resume from, or a new start would overwrite one.
    """
    config, folder = run.config, run.folder
    kept = [path for name in (LAST, PREVIOUS) if (path := folder / "checkpoints" / name).exists()]
    if kept and config.ckpt_path is None:
        raise ConfigError(
            f"ckpt_path=null would overwrite {kept[0]}; leave ckpt_path=last to resume from it, or move the folder away"
        )
    problems = []
    for path in kept:
        try:
            _resumable(path)
        except ConfigError as error:
            problems.append(str(error))
            log.warning("%s; it is left out", error)
        else:
            return path
    if problems:
        raise ConfigError("\n".join([*problems, f"no other checkpoint in {folder}; move the folder away to start anew"]))
    if config.ckpt_path in (None, "last"):
        return None
    path = Path(config.ckpt_path)
    _check_goes_on(path, _resumable(path, "ckpt_path"), run, trainer)
    return path


def take_backbone(module: EpisodicModule, resume: Path | None) -> None:
    """Give the backbone the weights of the training that is resumed, before its features are kept for this one."""
    if resume is not None:
        state = read_checkpoint(resume)["state_dict"]
        module.load_state_dict({key: x for key, x in state.items() if key.startswith(_BACKBONE)}, strict=False)


def _resumable(path: Path, setting: str = "ckpt") -> Mapping[str, Any]:
    """The checkpoint, once the file was read whole.

    Raises:
        ConfigError: it is damaged, hostile or no checkpoint of a training.
    """
    checkpoint = read_checkpoint(path, setting)
    if "optimizer_states" not in checkpoint:
        raise ConfigError(
            f"{setting}={path} holds a network, but no state of a training; start from its weights with init_from={path}, "
            f"or test it: mshnet-test ckpt={path}"
        )
    return checkpoint


def _check_goes_on(path: Path, checkpoint: Mapping[str, Any], run: Run, trainer: pl.Trainer) -> None:
    """Refuse another training than this run's, and one that has nothing left to do."""
    steps, epochs = checkpoint["global_step"], checkpoint["epoch"]
    others = other_training(checkpoint["hyper_parameters"]["config"], plain(run.raw, resolve=False))
    limits = {"max_steps": (trainer.max_steps, steps), "max_epochs": (trainer.max_epochs or -1, epochs)}
    reached = [
        f"trainer.{name}={limit}: nothing is left to do" for name, (limit, now) in limits.items() if 0 <= limit <= now
    ]
    if others or reached:
        longer = "" if others else "; to train longer, give a larger limit"
        raise ConfigError.listing(
            f"ckpt_path={path} resumes the training that wrote it, from its step {steps}, epoch {epochs}:",
            [*reached, *others],
            f"To train from its weights alone, with these settings and from step 0, give init_from={path}{longer}.",
        )


def list_trainings(
    run: Run, module: EpisodicModule, datamodule: EpisodeDataModule, resume: Path | None, past: list[Training]
) -> list[Training]:
    """The trainings that the network will have gone through at the end of this one; checkpoints get to tell them.

    Args:
        run: the run.
        module: whose checkpoints.
        datamodule: set up.
        resume: the checkpoint whose training is resumed, if any.
        past: those of the weights that the module starts with.

    Raises:
        ConfigError: the list in ``resume`` is none.
    """
    if resume is None:
        found = [*past, lineage.this_training(plain(run.raw), datamodule.trained_classes)]
    else:
        found = lineage.trainings(read_checkpoint(resume)["hyper_parameters"], f"ckpt_path={resume}")
    module.save_hyperparameters({lineage.KEY: [vars(one) for one in found]})
    return found
