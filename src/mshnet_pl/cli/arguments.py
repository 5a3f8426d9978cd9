"""``SETTING=VALUE`` arguments of the commands that compose no configuration, read by Hydra's grammar into their schema."""

import argparse
import difflib
import logging
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import EnumType
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, TypeVar, get_args, get_origin

from omegaconf import MISSING

from mshnet_pl.cli import help, quoting
from mshnet_pl.config.checks import called, fits
from mshnet_pl.config.settings import Described, settings
from mshnet_pl.errors import ConfigError, Interrupted, RunFailed, UserError, on_screen
from mshnet_pl.utils.files import if_unusable
from mshnet_pl.utils.log_lines import ScreenFormatter
from mshnet_pl.utils.places import given_place

_T = TypeVar("_T")


def run(name: str, schema: type[_T], act: Callable[[_T], None], example: str, words: Sequence[str] = ()) -> None:
    """Run a command on the command line's settings; what the user can mend is one message and exit code 2.

    Args:
        name: of the command, with its action if it has some.
        schema: its settings, a dataclass whose docstring says what the command does.
        act: does the work.
        example: what ``--help`` shows, a line a command.
        words: settings, paths all of them, that arguments without ``=`` are the values of in this order.
    """
    arguments = sys.argv[len(name.split()) :]
    parser = argparse.ArgumentParser(name, add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-sc", "--shell-completion", choices=["install=bash", "uninstall=bash"])
    chosen, rest = parser.parse_known_args(arguments)
    if chosen.help:
        print(help.page(name, schema, example, words))
    elif chosen.shell_completion:
        print(_completion(name, schema, install=chosen.shell_completion.startswith("install")))
    else:
        with errors_end_it():
            act(parse(rest, schema, name, words))


def parse(arguments: Sequence[str], schema: type[_T], name: str = "the command", words: Sequence[str] = ()) -> _T:
    """The settings that arguments give; one that is ``null`` counts as left out, an empty one where it has no default.

    Raises:
        ConfigError: an unknown setting, one given twice or that is lacking, or a value that may not be.
    """
    known, given, left = {one.key: one for one in settings(schema)}, dict[str, Any](), [*words]
    for argument in arguments:
        key, separator, text = argument.partition("=")
        if words and not re.match(r"-|[\w.]+=", argument):
            key, value = left[0], given_place(argument, left[0])
            left = left[1:] or left
            if get_origin(known[key].kind) is list:
                given.setdefault(key, []).append(value)
                continue
        elif key.startswith("-"):
            right = f"{key.lstrip('-').replace('-', '_')}={text or 'VALUE'}"
            raise ConfigError(f"{argument}: settings are given as {right}; {name} --help explains all")
        elif key not in known or not separator:
            close = difflib.get_close_matches(key, known, n=1)
            meant = f"did you mean {close[0]}=...? " if close else ""
            raise ConfigError(f"{argument}: there is no such setting here; {meant}{name} --help explains all")
        else:
            value = _value(known[key], text)
            if not text and known[key].default not in (None, MISSING):
                raise ConfigError(f"{key}= is empty; give a value, or leave {key}= out for {known[key].default}")
        if key in given:
            raise ConfigError(f"{argument}: {key}={given[key]} is given too; give it once")
        if value is not None:
            given[key] = value
    for key, one in known.items():
        if one.default == MISSING and key not in given:
            raise ConfigError(f"{key} is not set; give {key}=...\n{name} --help explains all settings")
    return schema(*(given.get(key, one.default) for key, one in known.items()))


def _value(one: Described, text: str) -> Any:  # noqa: ANN401 - of its kind
    """What ``text`` says by Hydra's grammar; None if it is empty or ``null``.

    Raises:
        ConfigError: it says nothing that the setting may be.
    """
    kind: Any = get_args(one.kind)[0] if isinstance(one.kind, UnionType) else one.kind
    element = get_args(kind)[0] if get_origin(kind) is list else None
    if element is not None and not text.startswith("["):
        text = f"[{quoting.in_quotes(text) if element is Path else text}]"
    read = quoting.value_of(one.key, quoting.quoted([f"{one.key}={text}"], {one.key: str} if kind in (str, Path) else {}))
    if read in (None, ""):
        return None
    several = element and isinstance(read, list)
    value = [_as(one.key, element, each) for each in read] if several else _as(one.key, kind, read)
    if not fits(value, one.kind) or not all(map(one.about.allows, value if isinstance(value, list) else [value])):
        raise ConfigError(f"{one.key}={text}: give {called(kind, one.about.range)}")
    return value


def _as(key: str, kind: Any, value: Any) -> Any:  # noqa: ANN401 - a type as annotations write it, and what Hydra reads
    """Paths and members of an enum, of texts; numbers of whole ones."""
    if kind is float and type(value) is int:
        return float(value)
    if kind is Path and isinstance(value, str):
        return given_place(value, key)
    return kind.__members__.get(str(value), value) if isinstance(kind, EnumType) else value


def _completion(name: str, schema: type, install: bool) -> str:
    """For ``eval``: bash then completes settings, their choices, and files."""
    program = name.split()[0]
    if not install:
        return f"complete -r {program}"
    words = [word for one in settings(schema) for word in (f"{one.key}=", *help.names(one.kind))]
    return f"complete -o nospace -o bashdefault -o default -W '{' '.join(words)}' {program}"


@contextmanager
def log_on_screen() -> Iterator[None]:
    """What the package logs goes to standard error."""
    log, handler = logging.getLogger("mshnet_pl"), logging.StreamHandler()
    handler.setFormatter(ScreenFormatter())
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)


@contextmanager
def errors_end_it() -> Iterator[None]:
    """What the user can mend ends the command with one message and exit code 2."""
    try:
        yield
    except UserError as error:
        fail(error)
    except (OSError, RuntimeError) as error:
        fail(about_path(error))


def about_path(error: OSError | RuntimeError) -> UserError:
    """A message in place of an error that says that a path on the command line is none that can be used.

    Raises:
        OSError: it says something else.
        RuntimeError: likewise.
    """
    if isinstance(error, OSError):
        return if_unusable(error)
    if "Symlink loop" not in str(error):  # pathlib's words
        raise error
    return ConfigError(f"{error}; give another path")


def fail(error: UserError | RunFailed | Interrupted, code: int = 2) -> NoReturn:
    """Print an error and end the command."""
    print(f"error: {on_screen(error)}", file=sys.stderr)
    raise SystemExit(code) from None
