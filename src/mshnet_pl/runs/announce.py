"""What a run says of itself before it begins."""

import os

import pytorch_lightning as pl
import torch

from mshnet_pl.config import plain
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.report import config_names, tables
from mshnet_pl.runs.job import Run
from mshnet_pl.training.module import EpisodicModule


def beginning(run: Run, datamodule: EpisodeDataModule, module: EpisodicModule, trainer: pl.Trainer, step: int = 0) -> str:
    """What is trained and tested, with which data, where, and where the files go: a line each.

    Args:
        run: the run.
        datamodule: set up.
        module: the network.
        trainer: runs it.
        step: where training begins.
    """
    config, raw = run.config, plain(run.raw)
    learnable, data = module.method.learnable_parameters(), config_names.data(raw)
    classes, novel = f"{len(datamodule.tested_classes)} classes tested", "novel " * bool(datamodule.fold.novel)
    lines = {
        "method": config_names.method(raw),
        "backbone": config_names.backbone(raw) + ", frozen" * (not module.method.backbone.trainable),
        "trainable": f"{learnable:,} parameters",
        "data": f"{tables.TITLES.get(data, data)}, {config.data.image_size} x {config.data.image_size} pixels",
        "fold": f"{config.fold}: {novel}{classes}",
        "shots": ", ".join(map(str, config.test.shots or [config.shot])) + f", {config.way}-way",
    }
    if config.ckpt is None and learnable and trainer.max_steps != 0:
        images = f"{len(datamodule.training_images()):,} images of {len(datamodule.trained_classes)} classes"
        lines["fold"] += f", {images} to train on"
        lines["shots"] = f"{config.shot} in training, tested with {lines['shots']}"
        limit = f"{trainer.max_steps:,} steps" if trainer.max_steps > 0 else f"{trainer.max_epochs:,} epochs"
        batch = config.data.batch_size * trainer.accumulate_grad_batches * trainer.world_size
        lines["steps"] = f"{limit} of {batch} episodes" + (f", from step {step:,} on" if step else "")
    tests = len(config.test.shots or [0]) * len(config.test.seeds)
    lines["tests"] = f"{config.test.episodes:,} episodes" + f", {tests} times" * (tests > 1)
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    several = f"{trainer.world_size} processes, the first on " if trainer.world_size > 1 else ""
    lines["device"] = f"{several}{device} ({name}), precision {trainer.precision}"
    lines["folder"] = os.path.relpath(run.folder)
    return "\n".join(f"{name:<10} {text}" for name, text in lines.items())
