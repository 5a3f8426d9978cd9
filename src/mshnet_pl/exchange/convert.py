"""``mshnet-convert``: a checkpoint of the authors' published implementation as one of this project's."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mshnet_pl import build, config, run
from mshnet_pl.arguments import parse
from mshnet_pl.checkpoint import read_method
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.exchange import card, output
from mshnet_pl.exchange.authors import authors_name, authors_shape
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.module import EpisodicModule
from mshnet_pl.results import sha256

USAGE = "mshnet-convert in=FILE.pth out=FILE.ckpt [data=pascal5i] [fold=N] [shot=K] [overwrite=true]"
_SETTINGS = {"in": True, "out": True, "data": False, "fold": False, "shot": False, "overwrite": False}
_DATA = ("pascal5i", "coco20i")
_SIMILARITIES = {"cosine": "merge.sim_layer_corrConv.", "prototype": "merge.query_sup_corrConv."}
_CLASSIFIER = "backbone.fc."
_COUNTER = "num_batches_tracked"  # older files lack it, and nothing reads it in eval mode


def main() -> None:
    """The command."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    output.run(convert, "mshnet-convert", USAGE)


def convert(settings: Sequence[str]) -> Path:
    """Turn the authors' checkpoint ``in`` into ``out``, which mshnet-test, mshnet-predict and mshnet-export read.

    The file tells its network, but neither data nor fold: fold=N says which classes it never saw.

    Args:
        settings: as on the command line.

    Returns:
        The path of the checkpoint; its model card lies beside it.

    Raises:
        ConfigError: a setting that is unknown, missing or impossible, or a file that would be overwritten.
        DataError: ``in`` cannot be read, or is no such checkpoint; nothing in it is executed.
    """
    values = parse(settings, _SETTINGS, USAGE)
    source, data = Path(values["in"]).expanduser(), values.get("data", "pascal5i")
    fold, shot = output.number(values, "fold", 0), output.number(values, "shot", 1)
    if data not in _DATA:
        raise ConfigError(f"data={data}: the authors trained on {' and '.join(_DATA)}")
    if fold is not None and fold > 3:
        raise ConfigError(f"fold={fold}: there are folds 0 to 3")
    target = output.free_path(values, source)
    state = _read(source)
    overrides = [f"data={data}", f"fold={'???' if fold is None else fold}", f"shot={shot or 1}", *_network(state)]
    raw = config.compose("recipe=authors_code", *overrides)
    method = build.make_method(run.without_weights(raw))
    _fill(method, state, source)
    module = EpisodicModule(method, config=config.plain(raw, resolve=False))
    module.save_hyperparameters({"origin": f"{source.name}, a checkpoint of the authors', SHA-256 {sha256(source)}"})
    with output.whole(target) as path:
        run.write_checkpoint(module, path)
        card.write(path, path, read_method(path))
    return target


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors by name, without what ``DataParallel`` and a training script put around them."""
    if not path.is_file():
        raise DataError(f"in={path}: no such file; give a checkpoint that the authors' code wrote")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
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
