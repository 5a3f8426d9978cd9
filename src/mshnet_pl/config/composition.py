"""Composing a configuration, and checking it."""

import re
from functools import cache
from importlib.resources import files
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from mshnet_pl.config.checks import mistyped, problems
from mshnet_pl.config.schema import Config, EnergyConfig
from mshnet_pl.errors import ConfigError

_REFERENCE = re.compile(r"\$\{[\w.]+\}")
_LAUNCHERS: dict[str, dict[str, Any]] = {
    "joblib": {"n_jobs": 2, "batch_size": "1", "pre_dispatch": "n_jobs"},  # the plugin's own default takes all cores
    "ray": {  # a cluster that "ray start" made; a job whose node dies goes on at another
        "ray": {
            "init": {"address": "auto", "object_store_memory": None},
            "remote": {"num_cpus": 1, "num_gpus": "${gpus_per_job:}", "max_retries": 3},
        }
    },
}


@cache
def register() -> None:
    """Give Hydra the schemas, and our defaults of its launchers (a YAML of a plugin's own name would recurse)."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Config)
    store.store(name="energy_schema", node=EnergyConfig)
    Plugins.instance()  # the launchers that are installed
    for name, ours in _LAUNCHERS.items():
        if f"{name}.yaml" in store.list("hydra/launcher"):
            node = OmegaConf.merge(store.load(f"hydra/launcher/{name}.yaml").node, ours)
            store.store(group="hydra/launcher", name=name, node=node)


def compose(*overrides: str) -> DictConfig:
    """What ``mshnet-train`` composes of these overrides."""
    register()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_module("mshnet_pl.conf", version_base="1.3"):
        return hydra.compose("config", overrides=[*overrides])


def take_data(settings: dict[str, Any], choice: str) -> None:
    """Give nested settings the data of a choice, and the protocol that it names, in the place of their own.

    What belongs to a network stays, the size of its images too; a backbone and a recipe are not taken.

    Raises:
        ConfigError: there is no such choice.
    """
    folder = files("mshnet_pl.conf") / "data"
    known = sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))
    if choice not in known:
        raise ConfigError(f"data={choice}: there is no such choice; data has {', '.join(known)}")
    content = OmegaConf.to_container(OmegaConf.create((folder / f"{choice}.yaml").read_text(encoding="utf-8")))
    assert isinstance(content, dict)
    groups: dict[Any, Any] = content if "data" in content else {"data": content}
    groups["data"] = {"root": None, "splits_dir": None} | groups["data"]
    del groups["data"]["image_size"]
    for group in ("data", "val", "test"):
        settings[group] = {**settings.get(group, {}), **groups.get(group, {})}


def typed(raw: DictConfig) -> Config:
    """The checked configuration as dataclasses.

    Raises:
        ConfigError: lists every problem at once.
    """
    missing = sorted(OmegaConf.missing_keys(raw))
    if missing:
        raise ConfigError("\n".join(f"{key} is not set; give {key}=..." for key in missing))
    schema, values = OmegaConf.get_type(raw), OmegaConf.to_container(raw, resolve=True)
    assert schema is not None and isinstance(values, dict)
    found = [*mistyped({str(key): value for key, value in values.items()}, schema)]
    if found:
        raise ConfigError("\n".join(found))
    config = OmegaConf.to_object(raw)
    assert isinstance(config, Config)
    found = problems(config)
    if found:
        raise ConfigError("\n".join(found))
    return config


def plain(raw: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """The configuration as a dictionary of plain values, fit for JSON and for a checkpoint.

    Args:
        raw: the composed configuration.
        resolve: replace references such as ``${data.root}`` by their values; otherwise only what is computed by more than
            references, such as ``${oc.env:HOME}``.
    """
    config = OmegaConf.to_container(raw, resolve=resolve, enum_to_str=True)
    assert isinstance(config, dict)
    return {str(key): value if resolve else _settled(value, raw, str(key)) for key, value in config.items()}


def _settled(node: Any, raw: DictConfig, key: str) -> Any:  # noqa: ANN401 - whatever stands there
    """A tree whose texts are plain or refer to settings."""
    if isinstance(node, dict):
        return {name: _settled(value, raw, f"{key}.{name}") for name, value in node.items()}
    if isinstance(node, list):
        return [_settled(value, raw, f"{key}[{place}]") for place, value in enumerate(node)]
    computed = isinstance(node, str) and "${" in _REFERENCE.sub("", node)
    return OmegaConf.select(raw, key) if computed else node
