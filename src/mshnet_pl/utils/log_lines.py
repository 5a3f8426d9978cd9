"""What is logged, as a terminal may show it."""

import logging
from collections.abc import Iterable

from mshnet_pl.errors import on_screen


class ScreenFormatter(logging.Formatter):
    """Another formatter's text, of which nothing steers a terminal, see ``errors.on_screen``.

    Args:
        inner: the other one; None for the message alone.
    """

    def __init__(self, inner: logging.Formatter | None = None) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        """The text."""
        return on_screen(self._inner.format(record))


def escape(handlers: Iterable[logging.Handler]) -> None:
    """Let those that write to the terminal or to a file do so by a ``ScreenFormatter``."""
    for handler in handlers:
        if type(handler) in (logging.StreamHandler, logging.FileHandler):  # no library's own
            handler.setFormatter(ScreenFormatter(handler.formatter))
