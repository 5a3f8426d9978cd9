"""What a run says of itself before it begins."""

import os

import pytorch_lightning as pl
import torch

from mshnet_pl.config import plain
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.report import config_names, tables
from mshnet_pl.runs.job import Run
from mshnet_pl.training.module import EpisodicModule
from mshnet_pl.utils.targets import network_name


def beginning(run: Run, datamodule: EpisodeDataModule, module: EpisodicModule, trainer: pl.Trainer, step: int = 0) -> str:
    """What is trained and tested, with which data, where, and where the files go: a line each."""
    config, raw = run.config, plain(run.raw)
    trainable, data = module.method.learnable_parameters(), config_names.data(raw)
    tested = config.test.shots or [config.shot]
    lines = {
        "method": network_name(raw),
        "backbone": config_names.backbone(raw) + ", frozen" * (not module.method.backbone.trainable),
        "trainable": f"{trainable:,} parameters",
        "data": f"{tables.TITLES.get(data, data)}, {config.data.image_size} x {config.data.image_size} pixels",
        "fold": f"{config.fold}: tested on {len(datamodule.tested_classes)}{' novel' * bool(datamodule.fold.novel)} classes",
        "shots": f"{config.way}-way, {' and '.join(map(str, tested))}-shot",
    }
    if config.ckpt is None and trainable and trainer.max_steps != 0:
        images = f"{len(datamodule.training_images()):,} images of {len(datamodule.trained_classes)} classes"
        lines["fold"] += f", trained on {images}"
        lines["shots"] += f", trained {config.shot}-shot" * (tested != [config.shot])
        limit = f"{trainer.max_steps:,}" if trainer.max_steps > 0 else f"those of {trainer.max_epochs:,} epochs"
        batch = config.data.batch_size * trainer.accumulate_grad_batches * trainer.world_size
        lines["steps"] = f"{limit}, of {batch} episodes each" + (f"; resumed at step {step:,}" if step else "")
    tests = len(tested) * len(config.test.seeds)
    lines["test"] = f"{config.test.episodes:,} episodes" + f", {tests} times" * (tests > 1)
    device = trainer.strategy.root_device
    threads = torch.get_num_threads()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{threads} thread{'s' * (threads > 1)}"
    several = f"{trainer.world_size} processes, the first on " if trainer.world_size > 1 else ""
    lines["device"] = f"{several}{device} ({name}), precision {trainer.precision}"
    lines["folder"] = os.path.relpath(run.folder)
    return "\n".join(f"{name:<10} {text}" for name, text in lines.items())
