"""What every command does at its end: Ctrl-C and a reader that stopped reading are no errors with a traceback."""

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from typing import TextIO

from mshnet_pl import __version__
from mshnet_pl.cli.arguments import fail
from mshnet_pl.errors import Interrupted, UserError
from mshnet_pl.utils.signals import interrupted

_SIGPIPE = 141
"""The exit code that a shell gives for it."""


def entry(main: Callable[[], None]) -> Callable[[], None]:
    """A command's ``main`` that ends with exit code 130 and one line on Ctrl-C, and quietly where ``| head`` has enough."""

    @wraps(main)
    def run() -> None:
        _open_closed_streams()
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as the package left it
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            try:
                if sys.argv[1:] == ["--version"]:
                    print(f"mshnet_pl {__version__}")
                else:
                    _folder_is_there()
                    main()
            finally:
                sys.stdout.flush()
        except Interrupted as error:
            fail(error, error.code)
        except UserError as error:
            fail(error)
        except KeyboardInterrupt:
            kept = "every file is whole, or is not there"
            ended = interrupted(signal.SIGINT, kept, "The same command does what is left.")
            fail(ended, ended.code)
        except BrokenPipeError:
            for stream in (sys.stdout, sys.stderr):
                _to_nowhere(stream)
            raise SystemExit(_SIGPIPE) from None

    return run


def _open_closed_streams() -> None:
    """A command that is begun with a closed stream (``>&-``) writes that into nowhere, not into the next file it opens."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))


def _folder_is_there() -> None:
    """Python's libraries end without a word where it is not."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise UserError("the current folder has been removed; change into another one and call the command again") from None


def _to_nowhere(stream: TextIO) -> None:
    """Where nobody reads a stream, what is left of it goes nowhere, at the interpreter's end neither."""
    try:
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
