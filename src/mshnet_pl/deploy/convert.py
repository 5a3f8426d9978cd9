"""``mshnet-convert``: a checkpoint of the authors' published implementation as one of this project's."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mshnet_pl.config import compose, plain
from mshnet_pl.config.commands import ConvertConfig
from mshnet_pl.deploy import output
from mshnet_pl.deploy.authors_names import authors_name, authors_shape
from mshnet_pl.errors import DataError
from mshnet_pl.inference import model_card, pretrained
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.models.builder import PREFIX
from mshnet_pl.runs import build
from mshnet_pl.utils.checkpoint_file import load_tensors
from mshnet_pl.utils.files import whole_path
from mshnet_pl.utils.hashing import sha256

_SIMILARITIES = {"cosine": "merge.sim_layer_corrConv.", "prototype": "merge.query_sup_corrConv."}
_CLASSIFIER = "backbone.fc."
_COUNTER = "num_batches_tracked"  # older files lack it, and nothing reads it in eval mode


def convert(config: ConvertConfig) -> Path:
    """Turn the authors' checkpoint into one which mshnet-test, mshnet-predict and mshnet-export read.

    The file tells its network, but neither data nor fold: fold=N says which classes it never saw.

    Returns:
        The path of the checkpoint; its model card lies beside it.

    Raises:
        ConfigError: a setting that is impossible, or a file that would be overwritten.
        DataError: the file cannot be read, or is no such checkpoint; nothing in it is executed. Or the disk is full.
    """
    source, out, fold = config.source, config.out, config.fold
    output.check_free(out, source, config.overwrite)
    state = _read(source)
    overrides = [f"data={config.data}", f"fold={'???' if fold is None else fold}", f"shot={config.shot}", *_network(state)]
    raw = compose("recipe=authors_code", *overrides)
    method = build.make_method(raw, pretrained=False)
    _fill(method, state, source)
    origin = f"{source.name}, a checkpoint of the authors', SHA-256 {sha256(source)}"
    weights = {f"{PREFIX}{name}": value for name, value in method.state_dict().items()}
    told = {"config": plain(raw, resolve=False), "origin": origin}
    with whole_path(output.card_path(out)) as card, whole_path(out) as partial:
        torch.save({"state_dict": weights, "hyper_parameters": told}, partial)
        written = pretrained.load(partial)
        card.write_text(model_card.text(out.name, written.sha256, written.describe(), written.trained.image_size))
    return out


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors by name, without what ``DataParallel`` and a training script put around them."""
    if not path.is_file():
        raise DataError(f"in={path}: no such file; give a checkpoint that the authors' code wrote")
    try:
        state = load_tensors(path)
    except Exception as error:  # a damaged or hostile file raises almost anything
        raise DataError(f"in={path} cannot be read as plain tensors; nothing in it was executed: {error}") from error
    state = state.get("state_dict", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not state:
        raise DataError(f"in={path} holds no tensors by name; give a checkpoint that the authors' code wrote")
    alien = next((name for name, value in state.items() if not isinstance(value, Tensor)), None)
    if alien is not None:
        raise DataError(f"in={path}: {alien} is of type {type(state[alien]).__name__}, expected a tensor")
    names = {str(name).removeprefix("module."): value for name, value in state.items()}
    return {name: value for name, value in names.items() if not name.startswith(_CLASSIFIER)}


def _network(state: Mapping[str, Tensor]) -> list[str]:
    """Overrides for the network that a state dict's names and shapes tell."""
    depth = 101 if "backbone.layer3.6.conv1.weight" in state else 50
    similarities = [name for name, prefix in _SIMILARITIES.items() if any(key.startswith(prefix) for key in state)]
    pyramid = state.get("merge.conv43.conv1.weight")
    width = len(pyramid) // 4 if pyramid is not None and pyramid.dim() else 128
    return [
        f"backbone=resnet{depth}",
        f"similarity=[{','.join(similarities or _SIMILARITIES)}]",
        f"model.width={max(width - width % 2, 2)}",
    ]


def _fill(method: AbstractMethod, state: Mapping[str, Tensor], path: Path) -> None:
    """Load the authors' entries into ``method``.

    Raises:
        DataError: names the first entry that does not fit.
    """
    own = method.state_dict()
    names = {authors_name(name): name for name in own}
    shapes = {key: authors_shape(name, tuple(own[name].shape)) for key, name in names.items()}
    missing = [key for key in names if key not in state and not key.endswith(_COUNTER)]
    for key, value in state.items():
        if key not in names:
            raise DataError(f"in={path}: {key} is no part of this network; expected {(missing or [*names])[0]}")
        if tuple(value.shape) != shapes[key]:
            raise DataError(f"in={path}: {key} has shape {tuple(value.shape)}, expected {shapes[key]}")
    if missing:
        raise DataError(f"in={path}: {missing[0]} is missing, expected with shape {shapes[missing[0]]}")
    method.load_state_dict({names[key]: value.view(own[names[key]].shape) for key, value in state.items()}, strict=False)
