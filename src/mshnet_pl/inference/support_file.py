"""What a method keeps of the supports, as a safetensors file."""

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.models.base import SupportCode
from mshnet_pl.utils.files import write_whole


def save(path: Path, codes: Mapping[str, SupportCode], network: str, overwrite: bool) -> None:
    """Write every class's code, and which network it belongs to.

    Raises:
        ConfigError: the file is there and ``overwrite`` is not set.
        DataError: the disk is full, or the folder cannot be written.
    """
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} is there; give another name, or overwrite=True")
    tensors = {
        f"{number}/{name}/{i}": tensor.contiguous()
        for number, code in enumerate(codes.values())
        for name, parts in code.items()
        for i, tensor in enumerate(parts)
    }
    write_whole(path, safetensors.torch.save(tensors, {"classes": json.dumps([*codes]), "network": network}))


def load(path: Path, network: str, device: torch.device) -> dict[str, SupportCode]:
    """What ``save`` wrote.

    Raises:
        DataError: the file cannot be read, or belongs to another network.
    """
    try:
        with safetensors.safe_open(path, "pt", str(device)) as file:
            metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}
        names, owner = json.loads(metadata["classes"]), metadata["network"]
        parts: dict[str, dict[str, dict[int, Tensor]]] = {name: {} for name in names}
        for key, tensor in tensors.items():
            number, part, i = key.split("/")
            parts[names[int(number)]].setdefault(part, {})[int(i)] = tensor
    except Exception as error:  # the library raises types of its own for a damaged file
        raise DataError(f"{path} is no file of save_support: {error}; fit the images anew") from error
    if owner != network:
        raise DataError(f"{path} belongs to another network; fit the images anew, or load that network's checkpoint")
    return {
        name: {part: tuple(found[i] for i in sorted(found)) for part, found in code.items()} for name, code in parts.items()
    }
