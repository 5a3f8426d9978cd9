"""The settings and the choices as tables: ``python -m mshnet_pl.config.reference > docs/settings.md``."""

import re
from collections.abc import Iterable, Iterator
from enum import Enum
from importlib.resources import files
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NamedTuple, get_args, get_origin

from omegaconf import DictConfig, OmegaConf

from mshnet_pl.config.bench_schema import BenchConfig
from mshnet_pl.config.commands import COMMANDS
from mshnet_pl.config.schema import Config, EnergyConfig
from mshnet_pl.config.settings import Described, Setting, groups, settings

_CONF = files("mshnet_pl.conf")
_INTRODUCTION = """\
# Settings

Made by `python -m mshnet_pl.config.reference > docs/settings.md`.

A setting is given as `SETTING=VALUE`, a choice as `GROUP=CHOICE`. A choice may change defaults: `mshnet-train --cfg job`
prints the values in effect, `mshnet-train data=pascal5i --cfg job` those with that choice. A setting without a default, `-`,
gets its value from a choice, from the command's own file in `conf/`, or from the command line.

A run's folder is named after a hash of the settings that change a result, as far as they differ from their defaults. "Not at
its default": the default ends the run with an error where another value continues, so it changes no finished result.
"""
_GROUPS = {
    "ablation": "Part of the paper's network that is left out.",
    "adaptation": "What a method changes in a recipe; follows from both.",
    "data": "Data set, with a backbone and a recipe that suit it.",
    "experiment": "Run or sweep that was prepared: it chooses for all other groups.",
    "recipe": "How a network is trained and tested: optimizer, steps, batch, protocol.",
    "strategy": "How several processes or GPUs share the work of a run.",
    "hydra/launcher": "Where the jobs of a sweep run.",
}
"""What is chosen, where no setting says it."""
_HEAD = ("setting", "meaning", "default", "type", "range", "changes a result")
_OWN_HEAD = ("setting", "meaning", "default", "type", "range")
"""Of commands that make no results."""


class Argument(NamedTuple):
    """A line of a choice's file that has a comment."""

    key: str
    default: str
    doc: str


class Choice(NamedTuple):
    """A file of a group."""

    name: str
    doc: str
    arguments: list[Argument]


def choice_groups() -> list[str]:
    """Groups of which the command line chooses, in alphabetical order."""
    own = [one.name for one in _CONF.iterdir() if one.is_dir() and one.name not in ("hydra", "__pycache__")]
    return [*sorted(own), "hydra/launcher"]


def group_docs() -> dict[str, str]:
    """What is chosen in each group, a sentence."""
    return {one.key: one.about.doc for one in settings(Config)} | _GROUPS


def choices(group: str) -> list[Choice]:
    """What a group has, with the comments of its files."""
    found = sorted((_CONF / group).iterdir(), key=lambda one: one.name)
    return [_choice(group, one.name.removesuffix(".yaml"), one.read_text()) for one in found if one.name.endswith(".yaml")]


def _choice(group: str, name: str, text: str) -> Choice:
    lines = text.splitlines()
    package = lines.pop(0).removeprefix("# @package ") if text.startswith("# @package ") else group.replace("/", ".")
    above: list[str] = ["" if package == "_global_" else package]
    doc, arguments = [], []
    for line in lines:
        if line.startswith("# "):
            doc.append(line.removeprefix("# "))
            continue
        found = re.fullmatch(r"( *)(\w+):(?: ([^#]*?))?(?: +# (.*))?", line)
        if found:
            indent, key, default, comment = found.groups()
            above[len(indent) // 2 + 1 :] = [key]
            if comment:
                arguments.append(Argument(".".join(filter(None, above)), default or "", comment))
    return Choice(name, " ".join(doc), arguments)


def default_choices() -> dict[str, str]:
    """What ``mshnet-train`` chooses of a group if the command line does not."""
    items = OmegaConf.to_container(_loaded("config.yaml").defaults)
    assert isinstance(items, list)
    named = {key: value for item in items if isinstance(item, dict) for key, value in item.items()}
    return {str(key): value_text(value) for key, value in named.items() if value}


def type_text(kind: Any, node: bool = False) -> str:  # noqa: ANN401 - a type as annotations write it
    """A type in words: ``list of int``, the names of a choice.

    Args:
        kind: the type.
        node: whether a group of settings is meant where any value may be.
    """
    if isinstance(kind, UnionType):
        return " or ".join(map(type_text, get_args(kind)))
    if get_origin(kind) is list:
        return f"list of {type_text(get_args(kind)[0])}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "/".join(one.name for one in kind)
    return {Any: "choice" if node else "any", NoneType: "null", str: "text", Path: "path"}.get(kind) or str(kind.__name__)


def value_text(value: object) -> str:
    """A value as the command line takes it."""
    if isinstance(value, list):
        return f"[{','.join(map(value_text, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return str(value) if value == round(value, 6) else f"{value:.6f}"
    return value.name if isinstance(value, Enum) else "-" if value == "???" else str(value)


def _loaded(name: str) -> DictConfig:
    found = OmegaConf.create((_CONF / name).read_text())
    assert isinstance(found, DictConfig)
    return found


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Markdown; empty where there is no row."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [[*head], ["---" for _ in head], *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n" if cells else ""


def _row(one: Described) -> tuple[str, ...]:
    node = one.key.partition(".source")[0]
    default = default_choices().get(node) if node in choice_groups() else value_text(one.default)
    kind = type_text(one.kind, node in choice_groups())
    return _cells(one.key, one.about, default or "null", kind)


def _own_row(one: Described) -> tuple[str, ...]:
    return _cells(one.key, one.about, value_text(one.default), type_text(one.kind))[: len(_OWN_HEAD)]


def _cells(key: str, about: Setting, default: str, kind: str) -> tuple[str, ...]:
    bounds = about.range.removeprefix("of ").removeprefix("from ")
    return f"`{key}`", about.doc, f"`{default}`" if default != "-" else default, kind, bounds, about.effect.text


def _arguments() -> Iterator[tuple[str, ...]]:
    """Rows of the nodes' arguments that the schema describes."""
    trainer = _loaded("trainer/default.yaml")
    for one in settings(Config):
        for name, about in one.about.arguments.items():
            default = value_text(trainer.get(name, "???") if one.key == "trainer" else "???")
            yield _cells(f"{one.key}.{name}", about, default, type_text(about.kind))


def _groups() -> Iterator[str]:
    chosen = default_choices()
    for group in choice_groups():
        yield f"### `{group}`\n"
        default = f"Default: `{chosen[group]}`.\n" if group in chosen else "None by default.\n"
        yield f"{group_docs()[group]} {default}"
        found = choices(group)
        yield _table(("choice", "meaning"), ([f"`{one.name}`", one.doc] for one in found))
        where: dict[Argument, list[str]] = {}
        for one in found:
            for argument in one.arguments:
                where.setdefault(argument, []).append(f"`{one.name}`")
        rows = ([f"`{a.key}`", a.doc, f"`{a.default}`" if a.default else "", ", ".join(names)] for a, names in where.items())
        yield _table(("setting", "meaning", "default", "of"), rows)


def markdown() -> str:
    """The page."""
    general = [one for one in settings(Config) if "." not in one.key]
    parts = [_INTRODUCTION, "## All commands\n", _table(_HEAD, map(_row, general))]
    for name, schema in groups(BenchConfig):
        own = [one for one in settings(schema, f"{name}.") if one.key.count(".") == name.count(".") + 1]
        parts += [f"## `{name}`\n", f"{(schema.__doc__ or '').splitlines()[0]}\n", _table(_HEAD, map(_row, own))]
    known = {one.key for one in settings(Config)}
    energy = [one for one in settings(EnergyConfig) if one.key not in known]
    parts += ["## `mshnet-report energy`\n", _table(_HEAD, map(_row, energy))]
    for name, schema in COMMANDS.items():
        doc = (schema.__doc__ or "").partition("\n")[0]
        parts += [f"## `{name}`\n", f"{doc}\n", _table(_OWN_HEAD, map(_own_row, settings(schema)))]
    parts += ["## Arguments of choices\n", _table(_HEAD, _arguments()), "## Choices\n", *_groups()]
    return "\n".join(filter(None, parts))


if __name__ == "__main__":
    print(markdown(), end="")
