"""What must hold for settings and between them, before any work is done."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from math import inf
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from mshnet_pl.config.schema import Config, EnergyConfig, EvalConfig
from mshnet_pl.options import Protocol, Which, augment_problems, guided_problems, scale_problems


def problems(config: Config) -> list[str]:
    """What cannot work, each with the way out."""
    mistaken = [*_no_nodes(config)]
    if mistaken:  # no other check would make sense of these
        return mistaken
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
        ("loss.foreground_weight", config.loss.foreground_weight, 0.01),
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
    problems = [
        f"{key}={value}: give a number of at least {least}" for key, value, least in at_least if not least <= value < inf
    ]
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


_NODES = ("data.source", "backbone", "model", "optimizer", "scheduler", "trainer")
_COUNTS = {"max_steps": -1, "max_epochs": -1, "accumulate_grad_batches": 1, "log_every_n_steps": 0, "num_nodes": 1}
"""The trainer's whole numbers, and the least that each may be."""
_SWITCHES = ("enable_progress_bar", "enable_model_summary")


def mistyped(values: Mapping[str, Any], schema: type, prefix: str = "") -> Iterator[str]:
    """Values that are not of their fields' types: references to other settings and nested lists can bring such.

    Args:
        values: of the settings by name, groups as mappings.
        schema: the dataclass of the group.
        prefix: of the names in messages.
    """
    hints = get_type_hints(schema)
    for field in fields(schema):
        value, kind = values.get(field.name), hints[field.name]
        if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, Mapping):
            yield from mistyped({str(key): one for key, one in value.items()}, kind, f"{prefix}{field.name}.")
        elif not _is(value, kind):
            yield f"{prefix}{field.name}={value}: give {_called(kind)}"


def _is(value: object, kind: Any) -> bool:  # noqa: ANN401 - a type as annotations write it
    if kind is Any:
        return True
    if isinstance(kind, UnionType):
        return any(_is(value, one) for one in get_args(kind))
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_is(one, get_args(kind)[0]) for one in value)
    if kind is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is not int or not isinstance(value, bool))


def _called(kind: Any) -> str:  # noqa: ANN401 - as above
    return "a group of settings" if is_dataclass(kind) else str(getattr(kind, "__name__", kind))


def _no_nodes(config: Config) -> Iterator[str]:
    """Groups that are none, what says no class, and the trainer's numbers, which Lightning does not check."""
    for key in _NODES:
        node = config.data.source if key == "data.source" else getattr(config, key)
        if key == "data.source" and node is None:  # a network alone needs no data; who needs them says so
            continue
        if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
            yield f"{key}={node}: give one of its choices, or a group of settings with _target_"
    for key in ("callbacks", "similarity", "logger"):
        node = getattr(config, key)
        if node is not None and not (isinstance(node, dict) and (key == "logger" or all(map(_is_node, node.values())))):
            yield f"{key}={node}: give its choices, or null for none"
    for key, switch in _partials(vars(config) | {"data.source": config.data.source}):
        if not isinstance(switch, bool):
            yield f"{key}={switch}: give true or false"
    trainer = config.trainer if isinstance(config.trainer, dict) else {}
    for name, least in _COUNTS.items():
        value = trainer.get(name, least)
        if not ((_is(value, int) and value >= least) or (value is None and name == "max_epochs")):
            yield f"trainer.{name}={value}: give a whole number of at least {least}"
    clip = trainer.get("gradient_clip_val")
    if clip is not None and not (_is(clip, float) and 0 <= clip < inf):
        yield f"trainer.gradient_clip_val={clip}: give a number of at least 0, or null for no clipping"
    yield from (
        f"trainer.{name}={trainer[name]}: give true or false"
        for name in _SWITCHES
        if not isinstance(trainer.get(name, True), bool)
    )


def _is_node(node: object) -> bool:
    return isinstance(node, dict) and isinstance(node.get("_target_"), str)


def _partials(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if key == "_partial_":
            yield f"{prefix}{key}", value
        elif isinstance(value, dict):
            yield from _partials(value, f"{prefix}{key}.")


def eval_problems(config: EvalConfig, image_size: int) -> list[str]:
    """What cannot work."""
    guided = guided_problems("eval.guided", config.guided, image_size)
    return guided + scale_problems("eval.scales", config.scales, image_size)
