"""Configurations as a report sees them: names of what ran, and settings that can change its numbers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mshnet_pl.results import Result

_WITHOUT_EFFECT = (
    "fold", "shot", "seed", "runs", "ckpt", "ckpt_path", "logger", "save_every_n_steps", "threads", "gpus",
    "variant", "similarity", "model.backbone", "backbone.trainable",
    "data.root", "data.splits_dir", "data.num_workers", "data.cache_mb", "data.cache_dir", "data.feature_cache",
    "data.bad_files", "loss.nonfinite",
    "trainer.enable_progress_bar", "trainer.enable_model_summary", "trainer.log_every_n_steps",
    "trainer.accelerator", "trainer.strategy", "trainer.devices", "trainer.num_nodes",
    "test.pictures", "test.feature_mb", "test.untrained", "test.seeds", "test.shots", "test.checkpoint",
)  # fmt: skip
"""Settings that change no number, that a table shows anyway, or that repeat another."""
_PLAIN = {"flip": False, "scales": [1.0], "fusion": "network", "guided": 0.0}
"""How results predict that do not say it."""
OF_EPISODES = ("data.source", "data.image_size", "data.min_images", "way", "eval.resolution", "test", "splits")
"""What decides which pixels are scored."""
OF_NETWORKS = (*OF_EPISODES, "eval", "backbone", "model", "trainer.precision")
"""What decides the scores of a network that was not trained."""


_NAMES = {"MSHNetLite": "MSHNet-lite"}
"""Names of methods, where they are not their classes'."""


def data(config: Mapping[str, Any]) -> str:
    """Class of the data source, such as ``Pascal5i``."""
    return _last(config["data"]["source"]["_target_"])


def method(config: Mapping[str, Any]) -> str:
    """``MSHNet cosine+prototype`` and the like, with the ablation's name where there is one."""
    model = config["model"]
    name = _NAMES.get(_last(model["_target_"]), _last(model["_target_"]))
    if "similarities" in model:
        name += " " + "+".join(model["similarities"])
    variant = config.get("variant", "full")
    return name if variant == "full" else f"{name}, {variant}"


def backbone(config: Mapping[str, Any]) -> str:
    """``ResNet-50`` and the like, of timm's networks the name; ``ResNet-50, trained`` where it is not frozen."""
    node = config["backbone"]
    name = node.get("name") or _last(node["_target_"]) + (f"-{node['depth']}" if "depth" in node else "")
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
    return {name: str(value) for name, value in kept if not _inside(name, _WITHOUT_EFFECT)}


def _processes(trainer: Mapping[str, Any]) -> str:
    """How many share a batch; ``auto`` where the configuration leaves it open."""
    devices = trainer.get("devices", 1)
    count = len(devices) if isinstance(devices, list) else devices
    return str(count * trainer.get("num_nodes", 1) if isinstance(count, int) else count)


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _inside(name: str, groups: Sequence[str]) -> bool:
    return any(name == group or name.startswith(f"{group}.") for group in groups)


def _last(target: str) -> str:
    return target.rpartition(".")[2]
