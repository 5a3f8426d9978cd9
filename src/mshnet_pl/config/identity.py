"""What identifies a run: a hash of the settings that can change its result, and the folder that is named after it."""

import hashlib
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mshnet_pl.config.composition import plain
from mshnet_pl.config.schema import Config
from mshnet_pl.errors import ConfigError
from mshnet_pl.utils.devices import listed
from mshnet_pl.utils.hashing import sha256

_ENDING = {"loss": ("nonfinite", "stop"), "data": ("bad_files", "error")}
"""Choices that end a run instead of changing its result: the hash is that of a configuration without the setting."""
_WITHOUT_EFFECT = ("runs", "logger", "save_every_n_steps", "threads", "gpus")
_WITHOUT_EFFECT_INSIDE = {
    "data": ("num_workers", "cache_mb", "cache_dir", "feature_cache"),
    "trainer": (
        "enable_progress_bar",
        "enable_model_summary",
        "log_every_n_steps",
        "accelerator",
        "strategy",
        "devices",
        "num_nodes",
    ),
    "test": ("pictures", "feature_mb"),
}


def config_hash(config: dict[str, Any]) -> str:
    """SHA-256 over all settings that can change a result by more than rounding.

    Several processes train on batches several times as large; they test the same episodes.

    Args:
        config: the resolved configuration as a plain dictionary.
    """
    config = deepcopy(config)
    processes = _processes(config.get("trainer") or {})
    if processes != "1" and config.get("ckpt") is None:
        config["processes"] = processes
    if config.get("ckpt_path") in (None, "last"):  # this configuration's own checkpoint, or none
        config.pop("ckpt_path", None)
    for key in _WITHOUT_EFFECT:
        config.pop(key, None)
    for group, (key, ending) in _ENDING.items():
        if isinstance(config.get(group), dict) and config[group].get(key) == ending:
            config[group].pop(key)
    for group, keys in _WITHOUT_EFFECT_INSIDE.items():
        for key in keys:
            if isinstance(config.get(group), dict):
                config[group].pop(key, None)
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def run_digest(raw: DictConfig) -> str:
    """SHA-256 that identifies a run: its configuration and, of a test, the checkpoint's content.

    Raises:
        ConfigError: there is no such checkpoint.
    """
    if raw.ckpt is None:
        return config_hash(plain(raw))
    if not Path(raw.ckpt).is_file():
        raise ConfigError(f"ckpt={raw.ckpt}: no such file; give a checkpoint that mshnet-train wrote")
    return config_hash({**plain(raw), "ckpt": sha256(Path(raw.ckpt))})


def _processes(trainer: dict[str, Any]) -> str:
    devices, nodes = trainer.get("devices", 1), trainer.get("num_nodes", 1)
    return str(devices if isinstance(devices, str) else (len(devices) if isinstance(devices, list) else devices) * nodes)


def run_name(*, _root_: DictConfig) -> str:
    """The folder of a run: what was chosen, and a hash of the configuration, so that no two configurations share one."""
    own = OmegaConf.masked_copy(_root_, list(Config.__dataclass_fields__))
    digest = "incomplete" if OmegaConf.missing_keys(own) else config_hash(plain(own))[:10]
    model = _chosen(_root_, "model")
    similarity = "+".join(_root_.similarity or ()) if "similarities" in _root_.model else ""
    variant = _root_.variant if _root_.variant != "full" else ""
    what = "_".join(
        part for part in (model, _root_.backbone.get("name") or _chosen(_root_, "backbone"), similarity, variant) if part
    )
    ways = f"{_root_.way}way_" if _root_.way != 1 else ""
    return f"{_chosen(_root_, 'data')}/{what}/fold{_root_.fold}_{ways}{_root_.shot}shot_seed{_root_.seed}_{digest}"


def _chosen(root: DictConfig, group: str) -> str:
    """What was chosen of a group; of a configuration from a checkpoint, what the choice instantiates."""
    node = root.data.source if group == "data" else root[group]
    return str(root.hydra.runtime.choices.get(group) or str(node._target_).rpartition(".")[2].lower())


def runs_folder(*, _root_: DictConfig) -> str:
    """Where all runs go, seen from where the command was started: a sweep's worker may have started elsewhere."""
    return str(Path(_root_.hydra.runtime.cwd) / _root_.runs)


def gpu_count(*, _root_: DictConfig) -> int:
    """How many devices the setting ``gpus`` names."""
    return len(listed([*_root_.gpus] if OmegaConf.is_list(_root_.gpus) else _root_.gpus))


OmegaConf.register_new_resolver("run_name", run_name, replace=True)  # at import: a sweep's worker names its run first
OmegaConf.register_new_resolver("gpu_count", gpu_count, replace=True)
OmegaConf.register_new_resolver("runs_folder", runs_folder, replace=True)
