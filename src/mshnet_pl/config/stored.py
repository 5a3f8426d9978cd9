"""The configuration inside a checkpoint, held to what a checkpoint may say before Hydra sees it.

What Hydra composes it also carries out: it calls what a ``_target_`` names, the resolvers in a value, and the factories of
its own logging. A checkpoint may come from a stranger. So what it says is taken by a list: the network, how images are
prepared, the protocol, and the facts of its training. Where things are written, what is logged, which files are read and
what runs beside the network come from the user's own command alone.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mshnet_pl import __version__
from mshnet_pl.config.schema import Config
from mshnet_pl.config.settings import Effect, effects
from mshnet_pl.errors import ConfigError
from mshnet_pl.utils.checkpoint_file import read_checkpoint
from mshnet_pl.utils.description import check_description, walk
from mshnet_pl.utils.nested import ABSENT, at
from mshnet_pl.utils.targets import NETWORK, RUN, public

_SETTINGS = effects(Config)
_TAKEN = (
    "fold", "shot", "way", "seed", "variant", "data.image_size", "data.batch_size", "data.novel_pixels", "data.min_images",
    "data.bad_files", "data.augment", "loss", "val", "eval", "test.episodes", "test.seeds", "test.shots", "test.protocol",
    "test.support", "test.controls", "test.checkpoint", "test.untrained",
    *(key for key, effect in _SETTINGS.items() if key.startswith("trainer.") and effect is not Effect.NO),
)  # fmt: skip
"""Plain values."""
_NODES = {
    "data.source": ("mshnet_pl.data.sources",),
    "backbone": NETWORK,
    "similarity": NETWORK,
    "model": NETWORK,
    "optimizer": ("torch.optim", "mshnet_pl.training"),
    "scheduler": ("mshnet_pl.training",),
    "callbacks": ("mshnet_pl.training",),
}
"""Groups with a ``_target_``, and the packages that it may be of. Callbacks are taken because tables tell what was
trained with them; a command that reads a checkpoint runs none."""
_REFERRED = ("data.image_size", "data.root", "data.splits_dir", "backbone", "similarity")
"""What a value may refer to: settings that are taken, or that the command gives."""
_FILES = ("data.root", "data.splits_dir", "data.source.root", "data.source.splits_dir", "data.source.manifest")
"""Never taken: null stays, what follows from ``data.root`` too; the command must name any other itself."""
_BELOW = re.compile(r"\$\{data\.(root|splits_dir)\}(/[\w-][\w.-]*)*")


class Stored(NamedTuple):
    """What is taken of a checkpoint's configuration."""

    config: dict[str, Any]
    """For Hydra: plain values, public names, references among its own settings; files are ``???``."""
    files: dict[str, str]
    """By setting: what training read, for messages. No command opens these unless its user gives them."""


def stored_config(path: Path) -> Stored:
    """The configuration inside a checkpoint.

    Raises:
        ConfigError: it is no checkpoint; or it sets what is no setting of ``mshnet-train``, names code that is not the
            project's, torch's optimizers' or Lightning's, or holds another value than numbers, plain words and references.
    """
    return held_to(read_checkpoint(path, finite=False)["hyper_parameters"]["config"], path)


def held_to(config: Mapping[str, Any], path: str | Path) -> Stored:
    """What is taken of the configuration of ``path``, as ``mshnet-train`` stores it.

    Raises:
        ConfigError: as ``stored_config``.
    """
    try:
        return _taken(config)
    except (ValueError, ImportError, RecursionError) as error:
        raise ConfigError(f"ckpt={path} is not loaded: {error}") from error


def _taken(config: Mapping[str, Any]) -> Stored:
    if not isinstance(config, dict):
        raise ValueError(f"its configuration is a {type(config).__name__}")
    for key in config:
        if key not in Config.__dataclass_fields__:
            raise ValueError(f"it sets {str(key)[:80]!r}, which no checkpoint of this project does")
    for place, name, target in walk(config, ""):
        if name == "_target_":
            _check_target(str(target), place)
    values, nodes = _chosen(config, _TAKEN), _chosen(config, _NODES)
    _check_known(values)
    callbacks = nodes.pop("callbacks", None)
    if isinstance(callbacks, Mapping):
        nodes["callbacks"] = {key: node for key, node in callbacks.items() if _package(node) in _NODES["callbacks"]}
    paths = {key: path for key, path in _chosen(config, _FILES).items() if path is not None}
    source = nodes.get("data.source")
    if isinstance(source, Mapping):
        nodes["data.source"] = {name: None if f"data.source.{name}" in paths else one for name, one in source.items()}
    for key, value in (values | nodes).items():
        check_description(value, key, _NODES.get(key, ()), _REFERRED)
    files = files_read(config)
    found: dict[str, Any] = {}
    for key, value in (values | nodes | dict.fromkeys(_FILES[:2]) | paths | dict.fromkeys(files, "???")).items():
        *groups, name = key.split(".")
        group = found
        for one in groups:
            group = group.setdefault(one, {})
        group[name] = value
    return Stored(found, files)


def _check_known(values: Mapping[str, Any]) -> None:
    """Refuse a group of settings with one that this version does not have: it would decide something there."""
    groups = {group: value for group, value in values.items() if isinstance(value, dict) and group not in _SETTINGS}
    said = (f"{group}.{name}" for group, value in groups.items() for name in value)
    unknown = [repr(key[:80]) for key in said if key not in _SETTINGS]
    if unknown:
        raise ValueError(
            f"it sets {', '.join(unknown[:3])}, which mshnet_pl {__version__} does not know; take the version that wrote "
            "it, or a newer one"
        )


def files_read(config: Mapping[str, Any]) -> dict[str, str]:
    """Files and folders of the data set in a stored configuration, by setting; what follows from another one left out."""
    found = {key: str(path) for key, path in _chosen(config, _FILES).items() if path not in (None, "???")}
    return {key: path for key, path in found.items() if not _BELOW.fullmatch(path)}


def _chosen(config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """The values by dotted name, of those that there are."""
    return {key: value for key in keys if (value := at(config, key)) is not ABSENT}


def _package(node: object) -> str:
    return str(node.get("_target_")).rpartition(".")[0] if isinstance(node, Mapping) else ""


def _check_target(target: str, place: str) -> None:
    """Refuse, wherever it stands, what the packages that a run is made of do not export."""
    try:
        public(target, RUN)
    except (ValueError, ImportError) as error:
        raise ValueError(f"{place.lstrip('.')} names {target}, which no checkpoint of this project does: {error}") from error
