"""From a checkpoint to its network, without Lightning and Hydra, and without executing anything in it."""

import re
from collections.abc import Mapping
from functools import partial, reduce
from pathlib import Path
from typing import Any, NamedTuple

from mshnet_pl.backbones.base import AbstractBackbone
from mshnet_pl.errors import ConfigError
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.options import Fusion
from mshnet_pl.utils.checkpoint_file import read_checkpoint
from mshnet_pl.utils.setting_keys import with_key
from mshnet_pl.utils.targets import NETWORK, public

_PREFIX = "method."
"""Of the method's entries in a checkpoint's state dict."""


class Trained(NamedTuple):
    """What a checkpoint is used for without its run."""

    method: AbstractMethod
    """In eval mode on the CPU."""
    image_size: int
    """Side of the square that it was trained on."""
    prediction: Mapping[str, Any]
    """The run's settings ``eval.flip``, ``eval.scales``, ``eval.fusion`` and ``eval.guided``, as plain values."""


def read_method(path: Path) -> Trained:
    """The trained method of a checkpoint, and how it predicts.

    No other file is read: the checkpoint holds the backbone's weights too.

    Raises:
        ConfigError: no such file, none of ours, or one that names anything but parts of a network of this package.
    """
    checkpoint = read_checkpoint(path)
    try:
        config = checkpoint["hyper_parameters"]["config"]
        method, image_size = _build("model", config), _build("data.image_size", config)
        if not isinstance(method, AbstractMethod) or not isinstance(image_size, int):
            raise ValueError(f"model={config['model']}, data.image_size={image_size}: no method with its image size")
        state = checkpoint["state_dict"].items()
        method.load_state_dict({key.removeprefix(_PREFIX): value for key, value in state if key.startswith(_PREFIX)})
        prediction = _prediction(config.get("eval", {}))
    except Exception as error:  # as above
        raise ConfigError(f"ckpt={path} holds no network that can be built: {error}") from error
    return Trained(method.eval(), image_size, prediction)


def _prediction(stored: Mapping[str, Any]) -> dict[str, Any]:
    """How the run predicts; settings that the file does not have are at their defaults."""
    return {
        "flip": bool(stored.get("flip", False)),
        "scales": [float(scale) for scale in stored.get("scales", [1.0])],
        "fusion": Fusion(stored.get("fusion", "network")).value,
        "guided": float(stored.get("guided", 0.0)),
    }


def _build(key: str, config: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever the node describes
    """What Hydra makes of the node at ``key`` of the stored configuration: ``_target_`` with ``_partial_``, references.

    Raises:
        ValueError: a ``_target_`` that is no part of a network, arguments that it refuses, or a reference of another form
            than ``${name.name}``.
    """
    return _made(reduce(lambda group, name: group[name], key.split("."), config), key, config)


def _made(node: Any, key: str, config: Mapping[str, Any]) -> Any:  # noqa: ANN401 - as above
    if isinstance(node, list):
        return [_made(value, key, config) for value in node]
    if isinstance(node, str) and "${" in node:
        reference = re.fullmatch(r"\$\{([\w.]+)\}", node)
        if reference is None:
            raise ValueError(f"{node} is no plain reference to another setting")
        return _build(reference[1], config)
    if not isinstance(node, dict):
        return node
    values = {name: _made(value, f"{key}.{name}", config) for name, value in node.items()}
    if "_target_" not in values:
        return values
    part, later = public(values.pop("_target_"), NETWORK), values.pop("_partial_", False)
    if issubclass(part, AbstractBackbone) and "weights" in values:
        values["weights"] = "random"  # until the state dict fills them
    try:
        return partial(part, **values) if later else part(**values)
    except ValueError as error:
        raise ValueError(with_key(str(error), key, config)) from error
