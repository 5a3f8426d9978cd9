"""What must hold for settings and between them, before any work is done."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import EnumType
from math import inf
from operator import attrgetter
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from mshnet_pl.config.schema import AugmentConfig, Config, EnergyConfig
from mshnet_pl.config.settings import settings
from mshnet_pl.options import EVERY_FOLD, Criterion, Protocol, Which, guided_problems, scale_problems


def problems(config: Config) -> list[str]:
    """What cannot work, each with the way out."""
    mistaken = [*_no_nodes(config), *_arguments(config)]
    if mistaken:  # no other check would make sense of these
        return mistaken
    between = [line for rule in _RULES for line in rule(config)]
    explained = {line.partition("=")[0] for line in between}  # a rule says more than a bound
    return [line for line in _out_of_bounds(config) if line.partition("=")[0] not in explained] + between


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
        elif not fits(value, kind):
            yield f"{prefix}{field.name}={value}: give {called(kind)}"


def _out_of_bounds(config: Config) -> Iterator[str]:
    """Numbers that are too small or too large, and lists without an element."""
    for key, kind, default, about in settings(type(config)):
        value = attrgetter(key)(config)
        for one in value if isinstance(value, list) else [value]:
            if not about.allows(one):
                yield f"{key}={one}: give a number {about.range}"
        if value == [] and default != [] and kind is not Any:
            yield f"{key}=[]: give at least one, {f'such as {default[0]}' if default else 'or null'}"


def _arguments(config: Config) -> Iterator[str]:
    """Arguments of nodes that are not of their types, or out of bounds."""
    for key, _, _, about in settings(type(config)):
        node = attrgetter(key)(config)
        for name, argument in about.arguments.items() if isinstance(node, dict) else ():
            value = node.get(name)
            if name in node and not (fits(value, argument.kind) and argument.allows(value)):
                yield f"{key}.{name}={value}: give {called(argument.kind, argument.range)}"


def fits(value: object, kind: Any) -> bool:  # noqa: ANN401 - a type as annotations write it
    """Whether a value is of a type; a whole number is a number, a truth value is neither."""
    if kind is Any:
        return True
    if isinstance(kind, UnionType):
        return any(fits(value, one) for one in get_args(kind))
    if get_origin(kind) is list:
        return isinstance(value, list) and all(fits(one, get_args(kind)[0]) for one in value)
    if kind is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is not int or not isinstance(value, bool))


_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path", NoneType: "null"}


def called(kind: Any, bounds: str = "") -> str:  # noqa: ANN401 - as above
    """What to give for a value of a type: ``a whole number of at least 1, or null``."""
    if isinstance(kind, UnionType):
        first, *others = get_args(kind)
        return ", or ".join([called(first, bounds), *map(called, others)])
    if is_dataclass(kind):
        return "a group of settings"
    if get_origin(kind) is list:
        return f"a list, such as [A,B], each {called(get_args(kind)[0], bounds)}"
    if isinstance(kind, EnumType):
        return " or ".join(kind.__members__)
    return f"{_WORDS.get(kind, str(getattr(kind, '__name__', kind)))} {bounds}".rstrip()


_NODES = ("data.source", "backbone", "model", "optimizer", "scheduler", "trainer")


def _no_nodes(config: Config) -> Iterator[str]:
    """Nodes that are none, or that do not say whose arguments they are."""
    for key in _NODES:
        node = attrgetter(key)(config)
        if key == "data.source" and node is None:  # a network alone needs no data; who needs them says so
            continue
        if not _is_node(node):
            yield f"{key}={node}: give one of its choices, or a group of settings with _target_"
    for key in ("callbacks", "similarity", "logger"):
        node = getattr(config, key)
        if node is not None and not (isinstance(node, dict) and (key == "logger" or all(map(_is_node, node.values())))):
            yield f"{key}={node}: give its choices, or null for none"
    for key, switch in _partials(vars(config) | {"data.source": config.data.source}):
        if not isinstance(switch, bool):
            yield f"{key}={switch}: give true or false"


def _is_node(node: object) -> bool:
    return isinstance(node, dict) and isinstance(node.get("_target_"), str)


def _partials(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if key == "_partial_":
            yield f"{prefix}{key}", value
        elif isinstance(value, dict):
            yield from _partials(value, f"{prefix}{key}.")


def _views(config: Config) -> Iterator[str]:
    """Every view of a test must be large enough for a network, and every window of its filter at least a pixel wide."""
    size = max(config.data.image_size, 1)
    yield from guided_problems("eval.guided", config.eval.guided, size)
    yield from scale_problems("eval.scales", config.eval.scales, size)


def _caches(config: Config) -> Iterator[str]:
    data, augment = config.data, config.data.augment
    if data.cache_dir is not None and not data.cache_mb:
        yield f"data.cache_dir={data.cache_dir} needs a budget: give data.cache_mb=10000, or leave data.cache_dir=null"
    if data.feature_cache is not None and augment != AugmentConfig():
        yield (
            f"data.feature_cache={data.feature_cache}: changed pictures have no lasting features; "
            "leave data.augment off, or data.feature_cache=null"
        )


def _controls(config: Config) -> Iterator[str]:
    """Other classes' supports take the place of a class's own."""
    if config.test.controls and config.way > 1:
        yield f"way={config.way}: control episodes have one class; take test.controls=0"


def _published_episodes(config: Config) -> Iterator[str]:
    """They are one set of episodes with one class."""
    if config.test.protocol is not Protocol.published:
        return
    if config.test.seeds not in ([0], []):
        yield (
            f"test.seeds={config.test.seeds}: test.protocol=published has one set of episodes; "
            "leave test.seeds=[0], or take test.protocol=seeded"
        )
    if config.way > 1:
        yield f"way={config.way}: the published episodes have one class; take test.protocol=seeded"


def _validation(config: Config) -> Iterator[str]:
    """What reads its outcome needs some."""
    if config.val.episodes or config.ckpt is not None:
        return
    if config.test.checkpoint is Which.best:
        yield "test.checkpoint=best needs validation: give val.episodes=200, or test.checkpoint=last"
    if "early_stopping" in (config.callbacks or {}):
        yield "callbacks=[early_stopping] needs validation: give val.episodes=200"


def _precision(config: Config) -> Iterator[str]:
    """Lightning would give halves to what computes in single precision."""
    precision = config.trainer.get("precision")
    if precision in ("16-true", "bf16-true"):
        yield f"trainer.precision={precision}: weights stay in single precision; give trainer.precision=bf16-mixed"


def _repeated(config: Config) -> Iterator[str]:
    """A test that is done twice would count twice."""
    for key, values in (("test.seeds", config.test.seeds), ("test.shots", config.test.shots or [])):
        if len({*values}) < len(values):
            yield f"{key}={values}: give each value once"


def _devices(config: Config) -> Iterator[str]:
    """Lightning takes these for something else, or ends without saying which setting it means."""
    devices = config.trainer.get("devices", 1)
    if isinstance(devices, list):
        right = fits(devices, list[int]) and 0 < len({*devices}) == len(devices) and min(devices) >= 0
    elif isinstance(devices, str):
        right = re.fullmatch(r"auto|-1|\d+(,\d+)*", devices) is not None
    else:
        right = fits(devices, int) and (devices >= 1 or devices == -1)
    if not right:
        yield f"trainer.devices={devices}: give a number of processes, auto, or a list of GPUs such as [0,1], each once"


def _fold(config: Config) -> Iterator[str]:
    if isinstance(config.fold, str) and config.fold != EVERY_FOLD:
        yield f"fold={config.fold}: give the fold's number, or {EVERY_FOLD} for every class"


def _start(config: Config) -> Iterator[str]:
    if config.init_from is not None and config.ckpt_path not in (None, "last"):
        yield (f"init_from={config.init_from}: ckpt_path={config.ckpt_path} resumes another training; give one of the two")


_EPISODES = "test.episodes=20 for a quick look"
_STEPS = "trainer.max_steps=100"
_SWITCHES = {
    "fast_dev_run": (False, f"trainer.max_steps=1 {_EPISODES}"),
    "barebones": (False, f"logger=none trainer.enable_progress_bar=false {_EPISODES}"),
    "overfit_batches": (0.0, _STEPS),
    "limit_train_batches": (1.0, _STEPS),
    "limit_val_batches": (1.0, "val.episodes=20"),
    "limit_test_batches": (1.0, _EPISODES),
    "limit_predict_batches": (1.0, "test.pictures=1"),
    "max_time": (None, f"{_STEPS}; or end the command by SIGTERM, and the same command resumes"),
    "val_check_interval": (None, "val.every_n_steps=100"),
    "check_val_every_n_epoch": (None, "val.every_n_steps=100"),
    "num_sanity_val_steps": (0, "none: nothing is validated before training"),
    "reload_dataloaders_every_n_epochs": (0, "none: an epoch begins where the one before it ended"),
    "use_distributed_sampler": (False, "none: processes share the episodes anyway"),
    "enable_checkpointing": (True, "save_every_n_steps=100"),
    "default_root_dir": (None, "runs=DIR"),
    "logger": (None, "logger=csv"),
    "callbacks": (None, "callbacks=[ema]"),
    "plugins": (None, "trainer.precision or strategy=CHOICE"),
}
"""Arguments of Lightning's Trainer that cut work short behind the settings' back, or that a run sets itself: the value that
does nothing, and the settings to give instead."""


def _switches(config: Config) -> Iterator[str]:
    """A result says what its settings say: nothing else may decide how much is trained and tested."""
    for name, (nothing, way_out) in _SWITCHES.items():
        value = config.trainer.get(name)
        if value is not None and (type(value), value) != (type(nothing), nothing):
            yield f"trainer.{name}={value}: a run decides that by its own settings; give {way_out}"


_GROUP = {"pattern": str, "factor": float, "weight_decay": float, "adamw": bool, "constant": bool}


def _parameter_groups(config: Config) -> Iterator[str]:
    """Each has a pattern and nothing that no optimizer here would understand."""
    if config.groups is None:
        return
    if not isinstance(config.groups, dict) or not all(isinstance(group, dict) for group in config.groups.values()):
        yield f"groups={config.groups}: give groups by name, each with its pattern, or null for none"
        return
    both = str(config.optimizer.get("_target_")).endswith("SGDAndAdamW")
    for name, group in config.groups.items():
        for key, value in group.items():
            if key not in _GROUP:
                yield f"groups.{name}.{key}={value}: there is no such argument; give some of {', '.join(_GROUP)}"
            elif not fits(value, _GROUP[key]) or (_GROUP[key] is float and not 0 <= value < inf):
                yield f"groups.{name}.{key}={value}: give {called(_GROUP[key], 'of at least 0' * (_GROUP[key] is float))}"
        if not _compiles(group.get("pattern")):
            yield f"groups.{name}.pattern={group.get('pattern')}: give a regular expression of parameters' names"
        if group.get("adamw") and not both:
            yield f"groups.{name}.adamw=true: only optimizer=sgd_adamw has AdamW beside; take it, or leave adamw out"


def _compiles(pattern: object) -> bool:
    try:
        re.compile(pattern)  # type: ignore[call-overload]  # whatever it is
    except (re.error, TypeError):
        return False
    return True


def _dice(config: Config) -> Iterator[str]:
    if config.loss.criterion is Criterion.dice and config.loss.foreground_weight != 1:
        yield (
            f"loss.foreground_weight={config.loss.foreground_weight}: loss.criterion=dice does not weigh pixels; "
            "leave loss.foreground_weight=1"
        )


def _figure(config: Config) -> Iterator[str]:
    if isinstance(config, EnergyConfig) and not config.out.endswith((".png", ".pdf", ".svg")):
        yield f"out={config.out}: give a name that ends in .png, .pdf or .svg"


_RULES = (
    _views, _caches, _published_episodes, _controls, _validation, _parameter_groups, _dice, _fold, _start, _switches,
    _figure, _repeated, _devices, _precision,
)  # fmt: skip
"""What must hold between settings; each yields a line a problem, which begins with ``key=value``."""
