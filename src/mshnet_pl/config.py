"""The typed half of the configuration, and what must hold between its fields.

Nodes with a ``_target_`` (data.source, backbone, similarity, model, optimizer, scheduler, trainer, logger, callbacks) are
leaves: their constructors check their own arguments.
"""

import hashlib
import json
from copy import deepcopy
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from omegaconf import MISSING, DictConfig, OmegaConf

from mshnet_pl.data.choices import NovelPixels, Protocol, ValClasses, augment_problems
from mshnet_pl.devices import listed
from mshnet_pl.errors import ConfigError
from mshnet_pl.evaluation import EvalConfig, eval_problems
from mshnet_pl.results import sha256


class Which(StrEnum):
    """Which checkpoint of a training run is tested."""

    best = "best"
    last = "last"


@dataclass
class AugmentConfig:
    """Random changes of training pictures; everything off by default."""

    flip: bool = False
    crop_scale: float = 1.0
    jitter: float = 0.0


@dataclass
class DataConfig:
    """What images there are, and how training draws them."""

    source: Any = None
    root: str | None = MISSING
    splits_dir: str | None = None
    image_size: int = 473
    batch_size: int = 8
    num_workers: int = 0
    novel_pixels: NovelPixels = NovelPixels.drop
    min_images: int = 0
    cache_mb: int = 0
    cache_dir: str | None = None
    feature_cache: str | None = None
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass
class LossConfig:
    """Eq. 1."""

    inner_weight: float = 1 / 3
    ignore_unknown: bool = False


@dataclass
class ValConfig:
    """Choosing the best checkpoint during training; ``episodes: 0`` for no validation."""

    episodes: int = 0
    every_n_steps: int = 500
    classes: ValClasses = ValClasses.novel
    heldout: int = 3


@dataclass
class TestConfig:
    """Which episodes are tested, and with which checkpoint."""

    __test__ = False  # not a pytest class

    episodes: int = 1000
    seeds: list[int] = field(default_factory=lambda: [0])
    shots: list[int] | None = None
    protocol: Protocol = Protocol.seeded
    checkpoint: Which = Which.last
    untrained: bool = False
    pictures: int = 4
    feature_mb: int = 1024


@dataclass
class Config:
    """Everything that ``mshnet-train`` and ``mshnet-test`` know."""

    fold: int = MISSING
    shot: int = 1
    way: int = 1
    seed: int = 0
    variant: str = "full"
    runs: str = "runs"
    threads: int | None = None
    gpus: Any = None
    ckpt: str | None = None
    ckpt_path: str | None = "last"
    save_every_n_steps: int = 100
    data: DataConfig = field(default_factory=DataConfig)
    backbone: Any = None
    similarity: Any = None
    model: Any = None
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: Any = None
    scheduler: Any = None
    trainer: Any = None
    logger: Any = None
    callbacks: Any = None
    val: ValConfig = field(default_factory=ValConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    test: TestConfig = field(default_factory=TestConfig)


@dataclass
class EnergyConfig(Config):
    """Everything that ``mshnet-report energy`` knows."""

    episodes: list[int] = field(default_factory=lambda: [0, 1])
    average: int = 100
    out: str = "energy.png"
    pictures: bool = True
    overwrite: bool = False


_LAUNCHERS: dict[str, dict[str, Any]] = {
    "joblib": {"n_jobs": 2, "batch_size": "1", "pre_dispatch": "n_jobs"},  # the plugin's own default takes all cores
    "ray": {  # a cluster that "ray start" made
        "ray": {
            "init": {"address": "auto", "object_store_memory": None},
            "remote": {"num_cpus": 1, "num_gpus": 0, "max_retries": 0},
        }
    },
}


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


def typed(raw: DictConfig) -> Config:
    """The checked configuration as dataclasses.

    Raises:
        ConfigError: lists every problem at once.
    """
    missing = sorted(OmegaConf.missing_keys(raw))
    if missing:
        raise ConfigError("\n".join(f"{key} is not set; give {key}=..." for key in missing))
    config = OmegaConf.to_object(raw)
    assert isinstance(config, Config)
    problems = _problems(config)
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def _problems(config: Config) -> list[str]:
    at_least = [
        ("fold", config.fold, 0),
        ("shot", config.shot, 1),
        ("way", config.way, 1),
        ("seed", config.seed, 0),
        ("save_every_n_steps", config.save_every_n_steps, 1),
        ("threads", 1 if config.threads is None else config.threads, 1),
        ("data.image_size", config.data.image_size, 32),
        ("data.batch_size", config.data.batch_size, 1),
        ("data.num_workers", config.data.num_workers, 0),
        ("data.min_images", config.data.min_images, 0),
        ("data.cache_mb", config.data.cache_mb, 0),
        ("loss.inner_weight", config.loss.inner_weight, 0),
        ("val.episodes", config.val.episodes, 0),
        ("val.every_n_steps", config.val.every_n_steps, 1),
        ("val.heldout", config.val.heldout, 1),
        ("test.episodes", config.test.episodes, 1),
        ("test.pictures", config.test.pictures, 0),
        ("test.feature_mb", config.test.feature_mb, 0),
        *(("test.seeds", seed, 0) for seed in config.test.seeds),
        *(("test.shots", shot, 1) for shot in config.test.shots or ()),
    ]
    if isinstance(config, EnergyConfig):
        at_least += [("average", config.average, 1), *(("episodes", number, 0) for number in config.episodes)]
    problems = [f"{key}={value}: give a number of at least {least}" for key, value, least in at_least if value < least]
    problems += augment_problems(config.data.augment.crop_scale, config.data.augment.jitter)
    problems += eval_problems(config.eval, max(config.data.image_size, 1))
    if config.data.cache_dir is not None and not config.data.cache_mb:
        problems.append(
            f"data.cache_dir={config.data.cache_dir} needs a budget: give data.cache_mb=10000, or leave data.cache_dir=null"
        )
    augment = config.data.augment
    if config.data.feature_cache is not None and (augment.flip or augment.crop_scale != 1 or augment.jitter):
        problems.append(
            f"data.feature_cache={config.data.feature_cache}: changed pictures have no lasting features; "
            "leave data.augment off, or data.feature_cache=null"
        )
    if not config.test.seeds:
        problems.append("test.seeds=[]: give at least one seed")
    if config.test.shots == []:
        problems.append("test.shots=[]: give at least one number of shots, or null for the shot of training")
    if config.test.protocol is Protocol.published and config.test.seeds != [0]:
        problems.append(
            f"test.seeds={config.test.seeds}: test.protocol=published has one set of episodes; "
            "leave test.seeds=[0], or take test.protocol=seeded"
        )
    if config.test.protocol is Protocol.published and config.way > 1:
        problems.append(f"way={config.way}: the published episodes have one class; take test.protocol=seeded")
    if config.test.checkpoint is Which.best and not config.val.episodes and config.ckpt is None:
        problems.append("test.checkpoint=best needs validation: give val.episodes=200, or test.checkpoint=last")
    if "early_stopping" in (config.callbacks or {}) and not config.val.episodes and config.ckpt is None:
        problems.append("callbacks=[early_stopping] needs validation: give val.episodes=200")
    if isinstance(config, EnergyConfig):
        if not config.episodes:
            problems.append("episodes=[]: give the number of at least one episode")
        if not config.out.endswith((".png", ".pdf", ".svg")):
            problems.append(f"out={config.out}: give a name that ends in .png, .pdf or .svg")
    return problems


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


def plain(raw: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """The configuration as a dictionary of plain values, fit for JSON and for a checkpoint.

    Args:
        raw: the composed configuration.
        resolve: replace references such as ``${data.root}`` by their values.
    """
    config = OmegaConf.to_container(raw, resolve=resolve, enum_to_str=True)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items()}


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
