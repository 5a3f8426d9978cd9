"""Errors that are the user's to mend: each message names the bad value, the place and the way out."""

import re
from collections.abc import Sequence

_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def one_line(text: object) -> str:
    r"""A stranger's text for a terminal: characters that steer one, ESC and line breaks too, as escapes such as ``\x1b``."""
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


def on_screen(text: object) -> str:
    """A message for a terminal: each of its lines as ``one_line``."""
    return "\n".join(map(one_line, str(text).split("\n")))


class UserError(Exception):
    """Base of the errors that a command prints as one message, without a traceback, and ends with exit code 2."""

    @classmethod
    def listing(cls, heading: str, problems: Sequence[str], way_out: str, limit: int = 10) -> "UserError":
        """One message for several problems, a line each: the first ``limit`` of them, and how many more there are."""
        lines = [f"  {one_line(problem)}" for problem in problems[:limit]]
        if len(problems) > limit:
            lines.append(f"  ... and {len(problems) - limit} more")
        return cls("\n".join([heading, *lines, way_out]))


class ConfigError(UserError):
    """A setting, or a combination of settings, that cannot work."""


class DataError(UserError):
    """Files that are missing, damaged or not what they should be."""


class NotFinite(UserError):
    """A training whose loss or gradient is not finite."""


class RunFailed(Exception):
    """A run's processes ended otherwise than by a ``UserError``; the run's log has the traceback."""


class Interrupted(BaseException):
    """A signal asked the process to end, and what it was doing is saved; no error, so a sweep ends with it.

    Args:
        message: says how to go on.
        code: the command's exit code.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.code = code

    def __str__(self) -> str:
        """The message."""
        return str(self.args[0])
