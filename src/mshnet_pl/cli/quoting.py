"""Arguments as a shell hands them over, with the quotes that Hydra's grammar asks for around text.

Hydra reads ``own (2024)`` as a call, ``a, b`` as a sweep and ``1_000`` as a number. Where a setting is a text, or nothing
else can be meant, an argument is the text itself.
"""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from mshnet_pl.config import BenchConfig, EnergyConfig
from mshnet_pl.config.settings import settings

_ARGUMENT = re.compile(r"((?:\+\+?)?(\w[\w./@:-]*))=(.*)", re.DOTALL)
_SWEEPS = ("-m", "--multirun", "hydra.mode=", "experiment=")
"""Beginnings of arguments with which commas may separate the values of a sweep."""
_PATHS = ("data.source.root", "data.source.splits_dir", "data.source.manifest", "backbone.weights")
"""Arguments of nodes that are texts."""


@cache
def _kinds() -> dict[str, Any]:
    """The types of all settings, by name; those of nodes' arguments where they are known to be texts."""
    known = {one.key: one.kind for schema in (EnergyConfig, BenchConfig) for one in settings(schema)}
    return {key: kind for key, kind in known.items() if kind is not Any} | dict.fromkeys(_PATHS, str)


def quoted(arguments: Sequence[str], kinds: Mapping[str, Any] | None = None) -> list[str]:
    """The arguments, in quotes where Hydra would not read the text that they say; ``kinds`` are the settings' types."""
    sweeps = may_sweep(arguments)
    return [_quoted(argument, sweeps, _kinds() if kinds is None else kinds) for argument in arguments]


def may_sweep(arguments: Sequence[str]) -> bool:
    """Whether they start a sweep, or choose an experiment, which may be one."""
    return any(argument.lstrip("+").startswith(_SWEEPS) for argument in arguments)


def value_of(key: str, arguments: Sequence[str]) -> Any:  # noqa: ANN401 - whatever Hydra reads
    """The value that the last of ``quoted`` arguments for a setting says; None if there is none."""
    found = [parsed for a in arguments if not a.startswith("-") and (parsed := _parsed(a)) and parsed.key_or_group == key]
    return found[-1].value() if found else None


def example(argument: str) -> str:
    """What to type in a shell for an argument whose value is a text."""
    key, _, value = argument.partition("=")
    return shlex.quote(f"{key}={in_quotes(value)}")


def _quoted(argument: str, sweeps: bool, kinds: Mapping[str, Any]) -> str:
    matched = _ARGUMENT.fullmatch(argument)
    if matched is None:
        return argument
    start, key, value = matched.groups()
    if value.startswith("~") and not Path(value).exists():  # bash says the user's folder itself, other shells do not
        argument = f"{start}={(value := os.path.expanduser(value))}"
    kind, parsed = kinds.get(key), _parsed(argument)
    if kind in (str, str | None):
        if parsed and (_is_text(parsed, value) or (parsed.is_sweep_override() and sweeps and not Path(value).exists())):
            return argument
        value = _unquoted(value)
    elif parsed or kind is not None:
        return argument
    if value.startswith("[") and value.endswith("]") and kind is None:
        return f"{start}=[{_elements(value[1:-1])}]"
    several = sweeps and "," in value and not Path(value).exists()
    return f"{start}={_elements(value) if several else in_quotes(value)}"


def _unquoted(value: str) -> str:
    """A text without the quotes around it, where it holds such quotes itself and Hydra reads neither."""
    around = len(value) > 1 and value[0] in "\"'" and value[-1] == value[0]
    return value[1:-1] if around and not Path(value).exists() else value


def _is_text(parsed: Override, value: str) -> bool:
    """Whether Hydra reads the very text; quotes that are there and null stay what they are."""
    if parsed.is_sweep_override():
        return False
    read = parsed._value
    return isinstance(read, QuotedString) or read is None or read == value


def _elements(values: str) -> str:
    """Values between commas, in quotes where they need them."""
    return ",".join(one if _parsed(f"key={one}") else in_quotes(one.strip()) for one in values.split(","))


def in_quotes(value: str) -> str:
    """A text in the quotes that Hydra's grammar wants around some."""
    return QuotedString(text=value, quote=Quote.double).with_quotes()


def _parsed(argument: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        return None
