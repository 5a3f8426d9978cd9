"""``key=value`` arguments of the commands that compose no configuration: declared once, parsed, checked and explained."""

import argparse
import difflib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

from mshnet_pl.errors import ConfigError, Interrupted, RunFailed, UserError
from mshnet_pl.options import DEFAULT_NETWORK


class Required(Enum):
    """Marks an option that has no default."""

    REQUIRED = "required"


REQUIRED = Required.REQUIRED


@dataclass(frozen=True)
class Option:
    """One option of a command.

    Attributes:
        doc: what ``--help`` says of it.
        kind: ``str``, ``int``, ``float``, ``bool``, ``Path``, or ``list`` of numbers with commas between them.
        default: what stands where it is left out; ``REQUIRED`` for none.
        low: the smallest value that a number may have.
        high: the largest one.
        choices: the values that there are, if they are few.
    """

    doc: str
    kind: type = str
    default: Any = None
    low: int | float | None = None
    high: int | float | None = None
    choices: Sequence[str] = ()

    def read(self, key: str, text: str) -> Any:  # noqa: ANN401 - of whichever kind
        """The value that ``text`` says.

        Raises:
            ConfigError: it says none, or one that may not be.
        """
        if self.choices and text not in self.choices:
            raise ConfigError(f"{key}={text}: give {' or '.join(self.choices)}")
        if self.kind is bool:
            if text not in ("true", "false"):
                raise ConfigError(f"{key}={text}: give true or false")
            return text == "true"
        if self.kind is Path:
            return Path(text).expanduser()
        value: Any
        try:
            value = [*map(float, text.strip("[]").split(","))] if self.kind is list else self.kind(text)
        except ValueError:
            value = None
        low, high = (-float("inf") if self.low is None else self.low), (float("inf") if self.high is None else self.high)
        if value is None or (self.kind in (int, float) and not low <= value <= high):
            raise ConfigError(f"{key}={text}: give {self._range()}")
        return value

    def _range(self) -> str:
        if self.kind is list:
            return "numbers with commas between them"
        number = "a whole number" if self.kind is int else "a number"
        if self.low is not None and self.high is not None:
            return f"{number} from {self.low:g} to {self.high:g}"
        return number if self.low is None else f"{number} of at least {self.low:g}"

    def usage(self, key: str) -> str:
        """As a line of usage shows it: in brackets where it may be left out."""
        words = {bool: "true|false", int: "N", float: "X", list: "X,X", Path: "PATH"}
        word = "|".join(self.choices) or words.get(self.kind, "TEXT")
        return f"{key}={word}" if self.default is REQUIRED else f"[{key}={word}]"

    def described(self) -> str:
        """Its meaning and its default."""
        if self.default is REQUIRED or self.default is None:
            return self.doc
        default = str(self.default).lower() if self.kind is bool else self.default
        return f"{self.doc} (default: {default})"


Options = dict[str, Option]
CKPT = Option(
    "a network: training-free, a checkpoint of mshnet-train, a folder of save_pretrained, or owner/name of the Hugging Face "
    "hub",
    default=DEFAULT_NETWORK,
)


def parse(settings: Sequence[str], options: Options, usage: str) -> dict[str, Any]:
    """Values by key, all of them; one that is empty or ``null`` counts as left out.

    Args:
        settings: as on the command line.
        options: the options that there are.
        usage: what messages show.

    Raises:
        ConfigError: an unknown key, one given twice or that is lacking, or a value that may not be.
    """
    given: dict[str, str] = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if key not in options or not separator:
            close = difflib.get_close_matches(key, options, n=1)
            meant = f"; did you mean {close[0]}=...?" if close else ""
            raise ConfigError(f"{setting}: there is no such setting here{meant}\nusage: {usage}")
        if key in given:
            raise ConfigError(f"{setting}: {key}={given[key]} is given too; give it once")
        if value not in ("", "null"):
            given[key] = value
    for key, option in options.items():
        if option.default is REQUIRED and key not in given:
            raise ConfigError(f"{key} is not set\nusage: {usage}")
    return {key: option.read(key, given[key]) if key in given else option.default for key, option in options.items()}


def run(name: str, doc: str, options: Options, act: Callable[[dict[str, Any]], None], flags: Sequence[str] = ()) -> None:
    """Run a command on the command line's settings; what the user can mend is one message and exit code 2.

    Args:
        name: of the command.
        doc: what ``--help`` says of it.
        options: its options.
        act: does the work, from the values of options by key and of flags.
        flags: ``--NAME: meaning`` of every switch.
    """
    usage = f"{name} {' '.join(option.usage(key) for key, option in options.items())}"
    epilog = "\n".join(f"  {key:<16} {option.described()}" for key, option in options.items())
    parser = argparse.ArgumentParser(
        prog=name,
        description=doc,
        usage=usage,
        epilog=f"settings:\n{epilog}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="see below")
    for flag in flags:
        switch, _, meaning = flag.partition(": ")
        parser.add_argument(switch, action="store_true", help=meaning)
    arguments = vars(parser.parse_intermixed_args())
    with errors_end_it():
        act({**parse(arguments.pop("settings"), options, usage), **arguments})


@contextmanager
def errors_end_it() -> Iterator[None]:
    """What the user can mend ends the command with one message and exit code 2."""
    try:
        yield
    except UserError as error:
        fail(error)


def fail(error: UserError | RunFailed | Interrupted, code: int = 2) -> NoReturn:
    """Print an error and end the command."""
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(code) from None
