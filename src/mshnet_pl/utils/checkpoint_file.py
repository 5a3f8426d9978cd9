"""Checkpoints of ``mshnet-train`` as files: read without executing anything in them."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mshnet_pl.errors import ConfigError


def read_checkpoint(path: Path, setting: str = "ckpt") -> dict[str, Any]:
    """A checkpoint of ``mshnet-train``, read without executing anything in it.

    Args:
        path: the file.
        setting: what messages call it.

    Raises:
        ConfigError: no such file, none of ours, or one with a wrong checksum.
    """
    if not path.is_file():
        raise ConfigError(f"{setting}={path}: no such file; give a checkpoint that mshnet-train wrote")
    try:
        with zipfile.ZipFile(path) as file:  # torch does not compare checksums
            damaged = file.testzip()
        if damaged is not None:
            raise ValueError(f"{damaged} in it is damaged")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["state_dict"], checkpoint["hyper_parameters"]["config"]
    except Exception as error:  # a damaged or hostile file raises almost anything
        raise ConfigError(f"{setting}={path} is not a checkpoint of mshnet-train: {error}") from error
    return dict(checkpoint)


def fill(module: nn.Module, path: Path, checkpoint: Mapping[str, Any], setting: str = "ckpt") -> None:
    """Load a checkpoint's weights into the module that it describes; ``setting`` is what messages call it.

    Raises:
        ConfigError: the weights are of another network.
    """
    try:
        module.load_state_dict(checkpoint["state_dict"])
    except (RuntimeError, TypeError, AttributeError) as error:
        problem = str(error).partition("\n\t")[2].partition("\n")[0] or error
        raise ConfigError(
            f"{setting}={path} does not hold the weights of the network that the settings describe: {problem}"
        ) from error
