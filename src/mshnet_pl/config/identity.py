"""What identifies a run: a hash of the settings that can change its result, and the folder that is named after it."""

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mshnet_pl.config.composition import plain
from mshnet_pl.config.schema import Config
from mshnet_pl.config.settings import Effect, effects, groups, settings
from mshnet_pl.errors import ConfigError
from mshnet_pl.utils.devices import listed
from mshnet_pl.utils.hashing import sha256
from mshnet_pl.utils.nested import leaves
from mshnet_pl.utils.targets import RUN, class_name, public

_PACKAGE = "mshnet_pl."
_DEFAULTS = {one.key: one.default for one in settings(Config)}
_WITHOUT_EFFECT = {key for key, effect in effects(Config).items() if effect is Effect.NO}
_AROUND_TRAINING = (
    "callbacks", "ckpt", "init_from", "data.bad_files", "data.root", "data.splits_dir", "backbone.weights", "eval.",
    "loss.nonfinite", "test.", "trainer.max_", "val.", "variant",
)  # fmt: skip
"""Beginnings of settings that one and the same training may have otherwise at another time."""
_GROUPS = {key for key, _ in groups(Config)}


def config_hash(config: dict[str, Any]) -> str:
    """SHA-256 over all settings that can change a result by more than rounding and that are not at their defaults.

    Defaults are those of the schema and, for arguments of this package's classes and functions, of their signatures; so a
    setting or an argument that is added later leaves the hash of a finished run as it is.

    Several processes train on batches several times as large; they test the same episodes.
    """
    changed = dict(_changed(config))
    processes = process_count(config.get("trainer") or {})
    if processes != "1" and config.get("ckpt") is None:
        changed["processes"] = processes
    if config.get("ckpt_path") is None:  # trained from the start, as with this configuration's own checkpoint
        changed.pop("ckpt_path", None)
    return hashlib.sha256(_text(dict(sorted(changed.items()))).encode()).hexdigest()


def _changed(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """The settings by dotted name that have an effect and are not at their defaults."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if key in _GROUPS and isinstance(value, Mapping):
            yield from _changed(value, f"{key}.")
        elif key not in _WITHOUT_EFFECT and not (key in _DEFAULTS and _text(value) == _text(_DEFAULTS[key])):
            yield key, _node(value, key)


def _node(value: object, key: str = "") -> object:
    """A value, of nodes in it without arguments that have no effect or are at their defaults."""
    if isinstance(value, list):
        return [_node(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    defaults = _defaults(value["_target_"]) if isinstance(value.get("_target_"), str) else {}
    return {
        name: _node(one)
        for name, one in value.items()
        if f"{key}.{name}" not in _WITHOUT_EFFECT and not (name in defaults and _text(one) == defaults[name])
    }


def other_training(stored: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """In which settings two configurations train otherwise, each as ``key=value (here VALUE)``, ``stored``'s value first.

    How far training goes, what is validated, tested and recorded, and where files are is left out.
    """
    theirs, ours = (dict(leaves(dict(_changed(config)))) for config in (stored, own))
    keys = sorted(key for key in theirs.keys() | ours.keys() if not key.startswith(_AROUND_TRAINING))
    values = [(key, theirs.get(key, "its default"), ours.get(key, "its default")) for key in keys]
    return [f"{key}={a} (here {b})" for key, a, b in values if _text(a) != _text(b)]


@cache
def _defaults(target: str) -> dict[str, str]:
    """Defaults, as ``_text``, of the arguments of a class or function of this package; of others none, which may change.

    A class that takes ``**kwargs`` has the arguments of its base class, too.
    """
    if not target.startswith(_PACKAGE):
        return {}
    try:
        part = public(target, RUN)
    except Exception:  # whatever an import raises; who builds the part says what is wrong
        return {}
    bases = part.__mro__ if isinstance(part, type) else ()
    found: dict[str, Any] = {}
    for function in [vars(base)["__init__"] for base in bases if "__init__" in vars(base)] if bases else [part]:
        if not inspect.isfunction(function) or not function.__module__.startswith(_PACKAGE):
            break
        parameters = inspect.signature(function).parameters.values()
        found = {one.name: one.default for one in parameters} | found
        if all(one.kind is not one.VAR_KEYWORD for one in parameters):
            break
    return {name: _text(default) for name, default in found.items() if default is not inspect.Parameter.empty}


def _text(value: object) -> str:
    """A text for every value, another one for every other value; only a node's arguments may be in any order."""
    if isinstance(value, Mapping):
        items = [f"{name!r}: {_text(one)}" for name, one in value.items()]
        return f"{{{', '.join(sorted(items) if '_target_' in value else items)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    return repr(value.name if isinstance(value, Enum) else value)


def run_digest(raw: DictConfig, network_digest: Callable[[str], str]) -> str:
    """SHA-256 that identifies a run: its configuration, and the content of the network that it tests or starts from.

    Raises:
        ConfigError: there is no such network.
    """
    config = plain(raw)
    if config.get("ckpt") is not None:
        config["ckpt"] = network_digest(config["ckpt"])
    if config.get("init_from") is not None:
        path = Path(config["init_from"])
        if not path.is_file():
            raise ConfigError(f"init_from={path}: no such file; give a checkpoint that mshnet-train wrote")
        config["init_from"] = sha256(path)
    return config_hash(config)


def process_count(trainer: dict[str, Any]) -> str:
    """How many share a batch; of what the checks will refuse, the text."""
    devices, nodes = trainer.get("devices", 1), trainer.get("num_nodes", 1)
    count = len(devices) if isinstance(devices, list) else devices
    return str(count * nodes if isinstance(count, int) and isinstance(nodes, int) else count)


def run_name(*, _root_: DictConfig) -> str:
    """The folder of a run: what was chosen, and a hash of the configuration, so that no two configurations share one."""
    own = OmegaConf.masked_copy(_root_, list(Config.__dataclass_fields__))
    digest = "incomplete" if OmegaConf.missing_keys(own) else _name_digest(plain(own), Path(_root_.hydra.runtime.cwd))
    model = _chosen(_root_, "model")
    similarity = "+".join(_root_.similarity or ()) if "similarities" in _root_.model else ""
    variant = _root_.variant if _root_.variant != "full" else ""
    what = "_".join(
        part for part in (model, _root_.backbone.get("name") or _chosen(_root_, "backbone"), similarity, variant) if part
    )
    ways = f"{_root_.way}way_" if _root_.way != 1 else ""
    return f"{_chosen(_root_, 'data')}/{what}/fold{_root_.fold}_{ways}{_root_.shot}shot_seed{_root_.seed}_{digest}"


def _name_digest(config: dict[str, Any], cwd: Path) -> str:
    """What a folder's name shows of the hash; of ``init_from`` the content counts, and of ``ckpt`` its path."""
    if config["init_from"] is not None and (start := cwd / config["init_from"]).is_file():
        config["init_from"] = sha256(start)
    return config_hash(config)[:10]


def _chosen(root: DictConfig, group: str) -> str:
    """What was chosen of a group; of a configuration from a checkpoint, what the choice instantiates."""
    node = root.data.source if group == "data" else root[group]
    return str(root.hydra.runtime.choices.get(group) or class_name(node._target_).lower())


def runs_folder(*, _root_: DictConfig) -> str:
    """Where all runs go, seen from where the command was started: a sweep's worker may have started elsewhere."""
    return str(Path(_root_.hydra.runtime.cwd) / _root_.runs)


def gpu_count(*, _root_: DictConfig) -> int:
    """How many devices the setting ``gpus`` names."""
    return len(listed([*_root_.gpus] if OmegaConf.is_list(_root_.gpus) else _root_.gpus))


def gpus_per_job(*, _root_: DictConfig) -> int:
    """GPUs that Ray sets aside for a job: with ``strategy=gpu_per_job`` those of ``trainer.devices``, otherwise none."""
    return int(_root_.trainer.devices) if _root_.hydra.runtime.choices.strategy == "gpu_per_job" else 0


OmegaConf.register_new_resolver("run_name", run_name, replace=True)  # at import: a sweep's worker names its run first
OmegaConf.register_new_resolver("gpu_count", gpu_count, replace=True)
OmegaConf.register_new_resolver("gpus_per_job", gpus_per_job, replace=True)
OmegaConf.register_new_resolver("runs_folder", runs_folder, replace=True)
