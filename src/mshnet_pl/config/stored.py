"""The configuration inside a checkpoint, held to what a checkpoint of this project can say before Hydra sees it.

What Hydra composes it also carries out: it calls what a ``_target_`` names, the resolvers in a value, and the factories of
its own logging. So a checkpoint has the project's own settings only, with public names of a few packages and plain
references.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mshnet_pl.config.schema import Config
from mshnet_pl.errors import ConfigError
from mshnet_pl.utils.checkpoint_file import read_checkpoint
from mshnet_pl.utils.targets import RUN, public

_REFERENCE = re.compile(r"\$\{([\w.\[\]]+|oc\.env:\w+(,[\w./ -]*)?)\}")


def stored_config(path: Path) -> dict[str, Any]:
    """The configuration inside a checkpoint.

    Raises:
        ConfigError: it is no checkpoint; or it sets what is no setting of ``mshnet-train``, names code that is not the
            project's, torch's optimizers' or Lightning's, or has a value that is computed otherwise than by reference.
    """
    stored: dict[str, Any] = read_checkpoint(path)["hyper_parameters"]["config"]
    if not isinstance(stored, dict):
        raise ConfigError(f"ckpt={path} is not a checkpoint of mshnet-train: its configuration is a {type(stored).__name__}")
    for key in stored:
        if key not in Config.__dataclass_fields__:
            raise ConfigError(f"ckpt={path} sets {key}, which no checkpoint of this project does; it is not loaded")
    for key, value in _leaves(stored):
        if "${" in _REFERENCE.sub("", value):
            raise ConfigError(f"ckpt={path} computes {key} as {value}, which no checkpoint of this project does; "
                              "it is not loaded")  # fmt: skip
        if key == "_target_":
            _check(value, path)
    return stored


def _leaves(node: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a tree, keys too, with the key that it stands at."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield "", str(name)
            yield from _leaves(value, str(name))
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value, key)
    else:
        yield key, str(node)


def _check(target: str, path: Path) -> None:
    """Refuse whatever the packages that a run is made of do not export."""
    try:
        public(target, RUN)
    except (ValueError, ImportError) as error:
        raise ConfigError(f"ckpt={path} names {target}, which no checkpoint of this project does: {error}") from error
