"""Configurations as a report sees them: names of what ran, and settings that can change its numbers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mshnet_pl.config.identity import process_count
from mshnet_pl.config.schema import Config
from mshnet_pl.config.settings import Effect, effects
from mshnet_pl.results import Result
from mshnet_pl.utils.nested import leaves
from mshnet_pl.utils.targets import backbone_name, class_name

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


def backbone(config: Mapping[str, Any]) -> str:
    """``ResNet-50`` and the like, of timm's networks the name; ``ResNet-50, trained`` where it is not frozen."""
    name = backbone_name(config["backbone"])
    return f"{name}, trained" if config["backbone"].get("trainable") else name


def of_result(result: Result, scope: Sequence[str] = ()) -> dict[str, str]:
    """The settings by dotted name that can change a number, in alphabetical order.

    Args:
        result: whose.
        scope: groups and settings to keep; all if empty.
    """
    evaluation = {**_PLAIN, **result.config.get("eval", {})}
    processes = process_count(result.config.get("trainer") or {})
    given = {"way": 1, **result.config, "eval": evaluation, "splits": result.splits, "processes": processes}
    kept = [(name, value) for name, value in sorted(leaves(given)) if not scope or _inside(name, scope)]
    return {
        name: class_name(value) if name.endswith("._target_") else str(value)  # files may move
        for name, value in kept
        if not _inside(name, _APART)
    }


def _inside(name: str, groups: Iterable[str]) -> bool:
    return any(name == group or name.startswith(f"{group}.") for group in groups)
