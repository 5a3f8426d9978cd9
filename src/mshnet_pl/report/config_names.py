"""Configurations as a report sees them: names of what ran, and settings that can change its numbers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mshnet_pl.config.schema import Config
from mshnet_pl.config.settings import Effect, effects
from mshnet_pl.results import Result
from mshnet_pl.utils.targets import class_name, method_name

_APART = {key for key, effect in effects(Config).items() if effect is not Effect.YES}
"""Settings that change no number, that a table shows anyway, or that repeat another."""
_PLAIN = {"flip": False, "scales": [1.0], "fusion": "network", "guided": 0.0, "zooms": []}
"""How results predict that do not say it."""
OF_EPISODES = ("data.source", "data.image_size", "data.min_images", "way", "eval.resolution", "test", "splits")
"""What decides which pixels are scored."""
OF_NETWORKS = (*OF_EPISODES, "eval", "backbone", "model", "trainer.precision")
"""What decides the scores of a network that was not trained."""


def data(config: Mapping[str, Any]) -> str:
    """Class of the data source, such as ``Pascal5i``."""
    return class_name(config["data"]["source"]["_target_"])


def method(config: Mapping[str, Any]) -> str:
    """``MSHNet cosine+prototype`` and the like, with the ablation's name where there is one."""
    model = config["model"]
    name = method_name(model["_target_"])
    if "similarities" in model:
        name += " " + "+".join(model["similarities"])
    variant = config.get("variant", "full")
    return name if variant == "full" else f"{name}, {variant}"


def backbone(config: Mapping[str, Any]) -> str:
    """``ResNet-50`` and the like, of timm's networks the name; ``ResNet-50, trained`` where it is not frozen."""
    node = config["backbone"]
    name = node.get("name") or class_name(node["_target_"]) + (f"-{node['depth']}" if "depth" in node else "")
    return f"{name}, trained" if node.get("trainable") else str(name)


def of_result(result: Result, scope: Sequence[str] = ()) -> dict[str, str]:
    """The settings by dotted name that can change a number, in alphabetical order.

    Args:
        result: whose.
        scope: groups and settings to keep; all if empty.
    """
    evaluation = {**_PLAIN, **result.config.get("eval", {})}
    processes = _processes(result.config.get("trainer") or {})
    given = {"way": 1, **result.config, "eval": evaluation, "splits": result.splits, "processes": processes}
    flat = sorted(_flat(given))
    kept = [(name, value) for name, value in flat if not scope or _inside(name, scope)]
    return {name: str(value) for name, value in kept if not _inside(name, _APART)}


def _processes(trainer: Mapping[str, Any]) -> str:
    """How many share a batch; ``auto`` where the configuration leaves it open."""
    devices = trainer.get("devices", 1)
    count = len(devices) if isinstance(devices, list) else devices
    return str(count * trainer.get("num_nodes", 1) if isinstance(count, int) else count)


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted name, of classes the name alone: their files may move."""
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", class_name(value) if key == "_target_" else value


def _inside(name: str, groups: Iterable[str]) -> bool:
    return any(name == group or name.startswith(f"{group}.") for group in groups)
