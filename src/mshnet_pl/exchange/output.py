"""What both commands share: the file that they write, never unasked over another one and never half."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from mshnet_pl.errors import ConfigError, DataError, UserError


def run(act: Callable[[Sequence[str]], Path], name: str, usage: str) -> None:
    """Run a command on the command line's settings; what the user can mend is one message and exit code 2."""
    parser = argparse.ArgumentParser(prog=name, description=act.__doc__, usage=usage)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="see the usage above")
    try:
        path = act(parser.parse_args().settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"{path}, described in {card_path(path)}")


def card_path(path: Path) -> Path:
    """Where the model card of ``path`` lies."""
    return path.with_name(f"{path.name}.md")


def number(values: Mapping[str, str], key: str, least: int) -> int | None:
    """An optional whole number of at least ``least``.

    Raises:
        ConfigError: it is none.
    """
    if key not in values:
        return None
    if not values[key].isdecimal() or int(values[key]) < least:
        raise ConfigError(f"{key}={values[key]}: give a whole number of at least {least}, or leave it out")
    return int(values[key])


def free_path(values: Mapping[str, str], source: Path) -> Path:
    """The path of ``out=``, where a file and its model card may be written.

    Args:
        values: with ``out``, and ``overwrite`` where given.
        source: what is read, and never replaced.

    Raises:
        ConfigError: no such folder, or something is there and is not to be overwritten.
    """
    path, overwrite = Path(values["out"]).expanduser(), values.get("overwrite", "false")
    if overwrite not in ("true", "false"):
        raise ConfigError(f"overwrite={overwrite}: give true or false")
    if not path.parent.is_dir():
        raise ConfigError(f"out={path}: no folder {path.parent}; make it, or choose another one")
    if path.is_dir() or path.resolve() == source.resolve():
        raise ConfigError(f"out={path}: that is {'a folder' if path.is_dir() else 'what is read'}; choose another name")
    there = [existing for existing in (path, card_path(path)) if existing.exists()]
    if there and overwrite == "false":
        raise ConfigError(f"{there[0]} is there already; give overwrite=true, or another out=")
    return path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place to write a file and its model card to; both move to ``path`` once they are complete.

    Raises:
        DataError: the folder cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".partial_") as folder:
            partial = Path(folder) / path.name
            yield partial
            for written, place in ((partial, path), (card_path(partial), card_path(path))):
                written.replace(place)
    except OSError as error:
        raise DataError(f"out={path}: {error}; mend that, or choose another folder") from error
