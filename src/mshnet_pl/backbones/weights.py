"""Weights of a backbone: from a state-dict file, or from torchvision's download."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision.models import get_weight

from mshnet_pl.utils.checkpoint_file import load_tensors
from mshnet_pl.utils.places import given_place


def load_weights(model: nn.Module, path: str | Path, classifier: str) -> None:
    """Load a local ``.pth`` / ``.pt`` / ``.safetensors`` state dict into ``model``; float16 values are accepted.

    Args:
        model: receives the weights, in its own dtype.
        path: the file.
        classifier: prefix of the classifier's entries, the only ones that may be missing or left over.

    Raises:
        ConfigError: see ``given_place``.
        FileNotFoundError: there is no such file.
        ValueError: the file is no state dict, lacks an entry, holds one too many, or one of another shape.
    """
    path = given_place(path, "backbone.weights")
    if not path.is_file():
        raise FileNotFoundError(f"weights={path}: no such file; give a .pth or .safetensors file, 'imagenet' or 'random'")
    load_state(model, read_state_dict(path), classifier, origin=str(path))


def load_state(model: nn.Module, state: Mapping[str, Tensor], classifier: str, origin: str) -> None:
    """``load_weights`` from tensors by name that were read from ``origin``.

    Raises:
        ValueError: an entry is missing, left over, or of another shape.
    """
    own = model.state_dict()
    counters = "num_batches_tracked"  # absent from files older than torch 0.4.1; unused in eval mode
    wanted = {k: v for k, v in own.items() if not k.startswith(classifier)}
    given = {k: v for k, v in state.items() if not k.startswith(classifier)}
    found = {
        "missing": [k for k in wanted if k not in given and not k.endswith(counters)],
        "unexpected": [k for k in given if k not in wanted],
        "of another shape": [
            f"{k} {tuple(given[k].shape)} instead of {tuple(wanted[k].shape)}"
            for k in wanted
            if k in given and given[k].shape != wanted[k].shape
        ],
    }
    wrong = [
        f"{what}: {', '.join(keys[:3])}{f' and {len(keys) - 3} more' if len(keys) > 3 else ''}"
        for what, keys in found.items()
        if keys
    ]
    if wrong:
        raise ValueError(
            f"weights={origin} does not fit {type(model).__name__} ({'; '.join(wrong)}); "
            "choose the backbone that the file belongs to"
        )
    model.load_state_dict(given, strict=False)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a state-dict file, without executing anything in it.

    Raises:
        ValueError: the file cannot be read, or holds something other than tensors by name.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = load_tensors(path)
    except Exception as error:  # the two libraries raise a dozen types for a damaged or hostile file
        raise ValueError(f"weights={path} is not a readable state dict: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"weights={path} must hold tensors by name, a plain state dict")
    return state


def load_named(model: nn.Module, weights: str, imagenet: str, classifier: str) -> None:
    """Fill ``model`` as ``weights`` says: ``imagenet``, ``random`` (leave as initialised) or a file's path.

    Args:
        model: a torchvision model.
        weights: the setting.
        imagenet: torchvision's name of the ImageNet weights, such as ``ResNet50_Weights.IMAGENET1K_V1``.
        classifier: prefix of the classifier's entries.

    Raises:
        ConfigError: see ``given_place``.
        ConnectionError: torchvision's download failed.
        FileNotFoundError: there is no such file.
        ValueError: the file does not fit.
    """
    if weights == "random":
        return
    if weights != "imagenet":
        return load_weights(model, weights, classifier)
    url = get_weight(imagenet).url
    try:
        state = torch.hub.load_state_dict_from_url(url, map_location="cpu", weights_only=True)
    except OSError as error:  # urllib's errors among them
        raise ConnectionError(
            f"weights=imagenet: {url} could not be downloaded ({error}); download it elsewhere and give the file's path"
        ) from error
    model.load_state_dict(state)
