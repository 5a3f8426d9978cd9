"""A checkpoint beside the data that the scripts here look at it with."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import DictConfig

from mshnet_pl import config
from mshnet_pl.config.schema import Config
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.models.builder import read_method
from mshnet_pl.runs import build
from mshnet_pl.runs.job import Run


class Opened(NamedTuple):
    """What a script works with."""

    raw: DictConfig
    typed: Config
    data: EpisodeDataModule
    method: AbstractMethod


def opened(checkpoint: Path, *overrides: str) -> Opened:
    """The settings are ``experiment=pascal5i_mini`` with the command line's changes, a batch has one episode."""
    raw = config.compose("experiment=pascal5i_mini", "data.batch_size=1", *overrides)
    run = Run.of(raw)
    torch.set_num_threads(run.config.threads or torch.get_num_threads())
    return Opened(raw, run.config, build.make_datamodule(run), read_method(checkpoint).method)


@contextlib.contextmanager
def predicting(typed: Config) -> Iterator[None]:
    """Without gradients, in ``trainer.precision``."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=typed.trainer["precision"] == "bf16-mixed"):
        yield
