"""What a method keeps of the supports, as a safetensors file."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

from mshnet_pl.data.io.images import MAX_BITS
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.inference.predictor import SupportCodes
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.utils.files import write_whole
from mshnet_pl.utils.hashing import checksum, weights_digest

T = TypeVar("T")


def save(
    path: Path, codes: Mapping[str, SupportCodes], negatives: Set[str], network: str, bits: int, overwrite: bool
) -> None:
    """Write every class's codes, which of them are negative, the network that it belongs to, and how deep its images were.

    Raises:
        ConfigError: there are no codes, or the file is there and ``overwrite`` is not set.
        DataError: the disk is full, or the folder cannot be written.
    """
    if not codes:
        raise ConfigError("nothing is fitted; call fit(images, masks) first")
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} is there; give another name, or overwrite=True")
    tensors = {
        f"{number}/{view}/{group}/{name}/{i}": tensor.contiguous()
        for number, of_class in enumerate(codes.values())
        for view, of_view in enumerate(of_class)
        for group, code in enumerate(of_view)
        for name, parts in code.items()
        for i, tensor in enumerate(parts)
    }
    metadata = {"classes": json.dumps([*codes]), "network": network, "bits": str(bits)}
    metadata |= {"negatives": json.dumps(sorted(negatives))} if negatives else {}
    write_whole(path, safetensors.torch.save(tensors, metadata | {"checksum": _checksum(metadata, tensors)}))


def is_support_file(path: Path) -> bool:
    """Whether that is a safetensors file: after the header's length of eight bytes begins JSON."""
    if not path.is_file() or path.suffix.lower() == ".json":
        return False
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def load(
    path: Path,
    network: str,
    device: torch.device,
    decode: Callable[[Sequence[Image.Image], Sequence[SupportCodes]], object],
) -> tuple[dict[str, SupportCodes], frozenset[str], int]:
    """What ``save`` wrote: the codes, which are negative, and the depth.

    Args:
        path: of the file.
        network: its fingerprint.
        device: for the codes.
        decode: predicts images by codes; raises anything where these are none of the network's.

    Raises:
        DataError: the file cannot be read, belongs to another network, or holds what is none of its codes.
    """
    try:
        with safetensors.safe_open(path, "pt", str(device)) as file:
            metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}
        if metadata.pop("checksum") != _checksum(metadata, tensors):
            raise ValueError("it is damaged")
        names, owner = json.loads(metadata["classes"]), metadata["network"]
        codes: dict[str, SupportCodes] = {name: _codes(tensors, f"{number}/") for number, name in enumerate(names)}
        negatives = frozenset(json.loads(metadata.get("negatives", "[]")))
        if not negatives <= {*codes}:
            raise ValueError(f"negatives={metadata['negatives']} are no classes of it")
        bits = int(metadata.get("bits", 8))  # older files do not tell
        if not (codes and 8 <= bits <= MAX_BITS and all(isinstance(name, str) for name in codes)):
            raise ValueError(f"classes={metadata['classes']}, bits={bits}")
    except Exception as error:  # the library raises types of its own for a damaged file
        raise DataError(f"{path} is no file of save_support: {error}; fit the images anew") from error
    if owner != network:
        raise DataError(f"{path} belongs to {_other(owner, network)}; fit the images anew, or take that")
    try:
        if any(len(tensor) != 1 for tensor in tensors.values()):  # supports of one batch serve every query
            raise ValueError("it is of several batches")
        decode([Image.new("RGB", (1, 1), "gray")], [*codes.values()])
    except Exception as error:  # whatever a method comes upon
        raise DataError(f"{path} does not hold what the network keeps of supports: {error}; fit the images anew") from error
    return codes, negatives, bits


def common_scale(path: str | os.PathLike[str], bits: int, others: int) -> int:
    """How deep the images are that a file's classes and others were looked at with; 8 goes with any.

    Raises:
        DataError: there is no such scale.
    """
    if 8 < min(bits, others) != max(bits, others):
        raise DataError(f"{path}: fitted on a scale of {bits} bits, but other classes on {others}; fit all images anew")
    return max(bits, others)


def _checksum(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Of everything in the file."""
    parts = sorted(tensors.items())
    place = json.dumps([sorted(metadata.items()), [[name, str(part.dtype), part.shape] for name, part in parts]])
    flat = (part.cpu().contiguous().flatten().view(torch.uint8) for _, part in parts)
    return checksum(place, *(part.numpy().data for part in flat)).hex()


def fingerprint(method: AbstractMethod, image_size: int, bf16: bool, settings: Mapping[str, Any]) -> str:
    """A network, by SHA-256, and the settings by which it looks at supports; JSON."""
    layout = [(name, part.stride, part.dilation) for name, part in method.named_modules() if isinstance(part, nn.Conv2d)]
    network = hashlib.sha256(json.dumps([weights_digest(method), layout]).encode()).hexdigest()
    views = {key: value for key, value in settings.items() if key != "guided"}
    return json.dumps({"network": network, "image_size": image_size, "bf16": bf16, **views})


def _other(owner: str, network: str) -> str:
    """What differs between a file's fingerprint and that of the network at hand."""
    try:
        theirs, ours = json.loads(owner), json.loads(network)
        if theirs["network"] == ours["network"]:
            changed = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
            return "other settings: " + ", ".join(f"{key}={theirs.get(key)} (not {ours.get(key)})" for key in changed)
    except (ValueError, LookupError, TypeError, AttributeError):  # whoever wrote the file
        pass
    return "another network"


def _codes(tensors: Mapping[str, Tensor], prefix: str) -> SupportCodes:
    """The codes of one class, whose tensors' names are ``VIEW/GROUP/PART/PLACE`` after the prefix."""
    views: dict[int, dict[int, dict[str, dict[int, Tensor]]]] = {}
    for key, tensor in tensors.items():
        if key.startswith(prefix):
            view, group, part, place = key.removeprefix(prefix).split("/")
            views.setdefault(int(view), {}).setdefault(int(group), {}).setdefault(part, {})[int(place)] = tensor
    return tuple(
        tuple({part: tuple(_in_order(found)) for part, found in code.items()} for code in _in_order(groups))
        for groups in _in_order(views)
    )


def _in_order(found: Mapping[int, T]) -> list[T]:
    return [found[place] for place in sorted(found)]
