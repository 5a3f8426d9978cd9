"""``--help`` of all commands, made from the settings' descriptions, and for those under Hydra from ``hydra.help``."""

import textwrap
from collections.abc import Iterator, Sequence
from enum import EnumType
from types import UnionType
from typing import Any, get_args

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

from mshnet_pl.config.reference import choice_groups, choices, group_docs, type_text, value_text
from mshnet_pl.config.settings import Setting, settings

_WIDTH = 100
_LAUNCHER = "hydra/launcher"
_AUTOMATIC = "adaptation"
"""Follows from other choices."""
_LISTS = ("callbacks", "similarity")
"""Groups of which any number is chosen; Hydra does not record those."""
_NODES = {*choice_groups(), "data.source"}
_ACTIONS = {
    "mshnet-train": {"replay ckpt=FILE": "Repeat a training step whose loss or gradient was not finite."},
    "mshnet-report": {
        "compare A B": "Compare two runs on the same episodes.",
        "power A B": "Say how many images, episodes and trainings a difference needs.",
        "energy ckpt=FILE": "Draw a checkpoint's energy maps.",
    },
}
"""What else a command does, by its first argument."""
_FLAGS = {"--help": "Show this.", "--version": "Show the package's version."}
_COMPLETION = {"--shell-completion install=bash": 'Print what makes bash complete settings: eval "$(NAME -sc install=bash)"'}
_HYDRAS_FLAGS = {
    "--multirun, -m": "Run every combination of values that stand between commas, a job each.",
    "--cfg job": "Print every setting with the values of this command line, and run nothing.",
    "--config-dir DIR": "Folder with configurations of your own.",
    "--hydra-help": "Explain Hydra's own flags.",
}


def page(name: str, schema: type, example: str, words: Sequence[str] = ()) -> str:
    """What a command that composes no configuration does, an example, and its settings with their defaults.

    Args:
        name: of the command.
        schema: its settings; the docstring's first line says what the command does.
        example: a line a command.
        words: settings whose names may be left out.
    """
    parts = [
        " ".join(
            [name, *(f"{word.upper()}{'...' * ('list' in _kind(schema, word))}" for word in words), "[SETTING=VALUE ...]"]
        ),
        _wrapped((schema.__doc__ or "").partition("\n")[0]),
        _example(example),
        "\n".join(
            ["Settings, and their defaults:", *(_setting(k, type_text(t), d, about) for k, t, d, about in settings(schema))]
        ),
        *_ends(name, _FLAGS | _COMPLETION),
    ]
    return "\n\n".join(parts)


def text(*, _root_: DictConfig) -> str:
    """What a command under Hydra does, an example, its choices and its settings with the values of the command line."""
    about, groups = _root_.hydra.help, [*_groups(_root_)]
    flags = _FLAGS | _HYDRAS_FLAGS | _COMPLETION
    if "sweep" not in (_root_.hydra.callbacks or {}):
        del flags["--multirun, -m"]
    parts = [
        f"{about.app_name} [CHOICE=NAME ...] [SETTING=VALUE ...]",
        _wrapped(about.header),
        _example(about.footer),
        *(["\n".join(["Choices, and which is taken:", *groups])] if groups else []),
        "\n".join(["Settings, and their values:", *_settings(_root_)]),
        *_ends(about.app_name, flags),
    ]
    return "\n\n".join(parts)


def names(kind: Any) -> list[str]:  # noqa: ANN401 - a type as annotations write it
    """The values of a setting of few values."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else [kind]
    found = [[*one.__members__] if isinstance(one, EnumType) else ["true", "false"] if one is bool else [] for one in kinds]
    return [name for some in found for name in some]


def _kind(schema: type, key: str) -> str:
    return next(str(one.kind) for one in settings(schema) if one.key == key)


def _example(lines: str) -> str:
    return f"For example:\n{textwrap.indent(lines, '  ')}"


def _ends(name: str, flags: dict[str, str]) -> Iterator[str]:
    """Actions and flags, and where more is said."""
    program, actions = name.split()[0], _ACTIONS.get(name, {})
    if actions:
        listed = _listed({f"{name} {action}": doc for action, doc in actions.items()})
        yield "\n".join(
            [f"Actions, each with a --help of its own ({name} {next(iter(actions)).split()[0]} --help):", *listed]
        )
    yield "\n".join(["Flags:", *_listed({flag: doc.replace("NAME", program) for flag, doc in flags.items()})])
    yield "docs/settings.md explains all settings and choices."


def _listed(lines: dict[str, str]) -> Iterator[str]:
    wide = max(map(len, lines))
    for name, doc in lines.items():
        yield _wrapped(doc, " " * (wide + 4), f"  {name:<{wide}}  ")


def _groups(root: DictConfig) -> Iterator[str]:
    taken, docs = dict(root.hydra.runtime.choices), group_docs()
    if "model" in taken:  # else the checkpoint has chosen
        taken |= {group: [*(root[group] or ())] or None for group in _LISTS}
    if "sweep" not in (root.hydra.callbacks or {}):
        taken.pop(_LAUNCHER, None)
    for group in choice_groups():
        if group not in taken or group == _AUTOMATIC:
            continue
        found = {one.name for one in choices(group)}
        if group == _LAUNCHER:  # those of plugins, too
            found |= {name.removesuffix(".yaml") for name in ConfigStore.instance().list(group)}
        kind = "list of choices" if group in _LISTS else "choice"
        yield f"  {group}={value_text(taken[group])}  ({kind})"
        yield _wrapped(f"{docs[group]} Choices: {', '.join(sorted(found))}.", "      ", "      ")


def _settings(root: DictConfig) -> Iterator[str]:
    schema = OmegaConf.get_type(root)
    assert schema is not None
    for one in settings(schema):
        values = {f"{one.key}.{name}": (about, about.kind) for name, about in one.about.arguments.items()}
        if one.key not in _NODES:
            values[one.key] = one.about, one.kind
        for key, (about, kind) in values.items():
            value = _value(root, key)
            if not OmegaConf.is_dict(value) and (key == one.key or value is not None):
                yield _setting(key, type_text(kind), value, about)


def _value(root: DictConfig, key: str) -> object:
    try:
        return OmegaConf.select(root, key, throw_on_missing=True)
    except MissingMandatoryValue:
        return MISSING


def _setting(key: str, kind: str, value: object, about: Setting) -> str:
    required = value == MISSING
    known = "..." if required else value_text([*value] if isinstance(value, ListConfig) else value)
    words = ", ".join(filter(None, (kind, about.range.removeprefix("of "), "required" * required)))
    return f"  {key}={known}  ({words})\n{_wrapped(about.doc, '      ', '      ')}"


def _wrapped(line: str, after: str = "", before: str = "") -> str:
    return textwrap.fill(line, _WIDTH, initial_indent=before, subsequent_indent=after, break_on_hyphens=False)
