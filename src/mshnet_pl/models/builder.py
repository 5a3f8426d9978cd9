"""From a checkpoint to its network, without Lightning and Hydra, and without executing anything in it."""

from collections.abc import Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mshnet_pl.backbones.base import AbstractBackbone
from mshnet_pl.errors import ConfigError
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.options import MAX_SIDE, MIN_SIDE, Fusion, guided_problems, scale_problems, zoom_problems
from mshnet_pl.utils.checkpoint_file import check_weights, read_checkpoint, shortened
from mshnet_pl.utils.description import check_description, resolve
from mshnet_pl.utils.setting_keys import with_key
from mshnet_pl.utils.targets import NETWORK, public

PREFIX = "method."
"""Of the method's entries in a checkpoint's state dict."""


class Trained(NamedTuple):
    """A trained network, without the run that trained it."""

    method: AbstractMethod
    """In eval mode on the CPU."""
    image_size: int
    """Side of the square that it was trained on."""
    prediction: Mapping[str, Any]
    """The run's settings ``flip``, ``scales``, ``fusion``, ``guided`` and ``zooms`` of ``eval``, as plain values."""
    network: Mapping[str, Any]
    """The description that ``method`` was built from, see ``build_method``."""


def read_method(path: Path) -> Trained:
    """The trained method of a checkpoint, and how it predicts.

    No other file is read: the checkpoint holds the backbone's weights too.

    Raises:
        ConfigError: no such file, none of ours, or one that names anything but parts of a network of this package.
    """
    checkpoint = read_checkpoint(path)
    try:
        config = checkpoint["hyper_parameters"]["config"]
        state = {key.removeprefix(PREFIX): t for key, t in checkpoint["state_dict"].items() if key.startswith(PREFIX)}
        evaluation = resolve(config, "eval") if "eval" in config else {}
        return assemble(resolve(config, "model"), resolve(config, "data.image_size"), evaluation, state, config)
    except Exception as error:  # as above
        raise ConfigError(f"ckpt={path} holds no network that can be built: {error}") from error


def assemble(
    network: Mapping[str, Any],
    image_size: object,
    prediction: Mapping[str, Any],
    state: Mapping[str, Tensor],
    config: Mapping[str, Any] | None = None,
) -> Trained:
    """What a file says, checked and put together.

    Args:
        network: see ``build_method``, as ``state`` and ``config``.
        image_size: side of the square that images are resized to.
        prediction: settings of prediction; those that are absent are at their defaults.
        state: the weights.
        config: the settings that the network's description was resolved from.

    Raises:
        ValueError: a setting that is impossible, or as ``build_method``.
        ImportError: as ``build_method``.
    """
    if type(image_size) is not int or not MIN_SIDE <= image_size <= MAX_SIDE:
        raise ValueError(f"{'data.' if config else ''}image_size={image_size}: give a number from {MIN_SIDE} to {MAX_SIDE}")
    return Trained(build_method(network, state, config), image_size, prediction_settings(prediction, image_size), network)


def build_method(
    description: Mapping[str, Any], state: Mapping[str, Tensor], config: Mapping[str, Any] | None = None
) -> AbstractMethod:
    """The network of a plain description, with its weights, in eval mode.

    Args:
        description: ``_target_`` with the name of one of this package's methods, and its arguments, see
            ``utils.description``; no references. A backbone's own ``weights`` are not read.
        state: tensors by the method's names.
        config: the settings that it was resolved from, whose names messages give.

    Raises:
        ValueError: it is no such description, an argument of it is refused, or the weights are of another network or not
            finite; an argument is named by its place, as ``model.width=3``.
        ImportError: its backbone needs a library that is not installed.
    """
    check_description(description, "model", NETWORK)
    check_weights(state)
    for device in ("meta", "cpu"):  # the first one takes no memory, whatever sizes a stranger's file has
        with torch.random.fork_rng(devices=[]), torch.device(device):  # the caller's random numbers stay
            method = _made(description, "model", config or {})
        if not isinstance(method, AbstractMethod):
            raise ValueError(f"model={description}: no method")
        _load(method.float(), state)  # whatever PyTorch's default type of numbers is
    return method.eval()


def _load(method: AbstractMethod, state: Mapping[str, Tensor]) -> None:
    """Fill a method, or only compare the shapes of one without memory.

    Raises:
        ValueError: the weights are of another network.
    """
    try:
        method.load_state_dict(state, assign=next(method.parameters()).is_meta)
    except RuntimeError as error:
        raise ValueError(shortened(str(error))) from error


def _made(node: Any, place: str, config: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever the node describes
    """What Hydra makes of a node: ``_target_`` with ``_partial_``, nodes as arguments."""
    if isinstance(node, list | tuple):
        return [_made(value, place, config) for value in node]
    if not isinstance(node, Mapping):
        return node
    values = {name: _made(value, f"{place}.{name}", config) for name, value in node.items()}
    if "_target_" not in values:
        return values
    part, later = public(values.pop("_target_"), NETWORK), values.pop("_partial_", False)
    if issubclass(part, AbstractBackbone) and "weights" in values:
        values["weights"] = "random"  # until the state dict fills them
    try:
        return partial(part, **values) if later else part(**values)
    except ValueError as error:
        raise ValueError(with_key(str(error), place, config)) from error


def prediction_settings(stored: Mapping[str, Any], image_size: int) -> dict[str, Any]:
    """How the run predicts; settings that the file does not have are at their defaults.

    Raises:
        ValueError: it cannot predict so.
    """
    guided, scales = float(stored.get("guided", 0.0)), [float(scale) for scale in stored.get("scales", [1.0])]
    zooms = [float(zoom) for zoom in stored.get("zooms", [])]
    problems = guided_problems("eval.guided", guided, image_size), scale_problems("eval.scales", scales, image_size)
    for problem in chain(*problems, zoom_problems("eval.zooms", zooms)):
        raise ValueError(problem)
    fusion = Fusion(stored.get("fusion", "network")).value
    found = {"flip": bool(stored.get("flip", False)), "scales": scales, "fusion": fusion, "guided": guided, "zooms": zooms}
    if unknown := [str(key) for key in stored if key not in (*found, "resolution")]:  # the last concerns tests alone
        raise ValueError(f"unknown settings of prediction: {', '.join(unknown)}; known are {', '.join(found)}")
    return found
