"""Checkpoints of ``mshnet-train`` as files: read without executing anything in them."""

import pickle
import shlex
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mshnet_pl.errors import ConfigError

MAX_WEIGHT = 1e12
"""The largest magnitude of a weight: products of larger ones overflow."""


def read_checkpoint(path: Path, setting: str = "ckpt", finite: bool = True) -> dict[str, Any]:
    """A checkpoint of ``mshnet-train``, read without executing anything in it.

    Raises:
        ConfigError: no such file, none of ours, one with a wrong checksum or with weights that no network works with.
    """
    if not path.is_file():
        raise ConfigError(f"{setting}={path}: no such file; give a checkpoint that mshnet-train wrote")
    try:
        checkpoint = load_tensors(path, legacy=False)
        if not isinstance(checkpoint, Mapping) or not {"state_dict", "hyper_parameters"} <= checkpoint.keys():
            raise ValueError("it holds no network with its settings")
        checkpoint["hyper_parameters"]["config"]
        check_weights(checkpoint["state_dict"], finite)
    except Exception as error:  # a damaged or hostile file raises almost anything
        way_out = (
            f"; if the authors' code wrote it, mshnet-convert in={shlex.quote(str(path))} out=mshnet.ckpt makes one of it"
        )
        foreign = "; give one that it wrote whole" if path.suffix == ".ckpt" else way_out
        raise ConfigError(f"{setting}={path} is not a checkpoint of mshnet-train: {_said(error)}{foreign}") from error
    return dict(checkpoint)


def _said(error: Exception) -> str:
    """What an error says; of a pickle, not torch's advice to execute what is in it."""
    if isinstance(error, pickle.UnpicklingError):
        return "it holds more than tensors and plain values; nothing in it was executed"
    if isinstance(error, KeyError | TypeError | AttributeError | EOFError):
        return f"it is cut off or of another form ({error})"
    return str(error)


def load_tensors(path: Path, legacy: bool = True) -> Any:  # noqa: ANN401 - whatever is in it
    """What ``torch.save`` wrote, read without executing anything, after the checks that torch leaves out.

    Args:
        path: the file.
        legacy: it may be of PyTorch before 1.6, which has no checksums.

    Raises:
        ValueError: a wrong checksum, or entries that take more memory than the file; torch raises much else.
    """
    if not legacy or zipfile.is_zipfile(path):
        _check_zip(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as file:
        unpacked, size = sum(entry.file_size for entry in file.infolist()), path.stat().st_size
        if unpacked > size:  # torch compresses nothing, and no two entries share bytes
            raise ValueError(f"its {size:,} bytes would unpack to {unpacked:,}, which are not read")
        damaged = file.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} in it is damaged")


def check_weights(state: object, finite: bool = True) -> None:
    """Refuse what is no state dict of a network that works.

    Raises:
        ValueError: names the first tensor that is wrong, and how.
    """
    if not isinstance(state, Mapping):
        raise ValueError(f"its weights are a {type(state).__name__}")
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_quantized:
            raise ValueError(f"{name} in it is no plain tensor, but a {type(tensor).__name__}")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"{name} in it has shape {tuple(tensor.shape)}, but the file holds less")
        if finite and tensor.is_floating_point() and tensor.numel():
            low, high = (float(bound) for bound in tensor.aminmax())
            if not -MAX_WEIGHT <= low <= high <= MAX_WEIGHT:  # NaN neither
                wrong = high if not high <= MAX_WEIGHT else low
                raise ValueError(f"{name} in it holds {wrong:g}, where weights are numbers of at most {MAX_WEIGHT:g}")


def fill(module: nn.Module, path: Path, checkpoint: Mapping[str, Any], setting: str = "ckpt") -> None:
    """Load a checkpoint's weights into the module that it describes; into one on the device ``meta``, compare shapes alone.

    Raises:
        ConfigError: the weights are of another network.
    """
    try:
        module.load_state_dict(checkpoint["state_dict"], assign=next(module.parameters()).is_meta)
    except (RuntimeError, TypeError, AttributeError) as error:
        problem = shortened(str(error).partition("\n\t")[2].partition("\n")[0] or str(error))
        raise ConfigError(
            f"{setting}={path} does not hold the weights of the network that the settings describe: {problem}"
        ) from error


def shortened(message: str, letters: int = 1000) -> str:
    """A message whose rest is only counted: that of another network names every tensor."""
    return message if len(message) <= letters else f"{message[:letters]} ... and {len(message) - letters:,} letters more"
