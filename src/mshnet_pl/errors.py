"""Errors that are the user's to mend: each message names the bad value, the place and the way out."""

from collections.abc import Sequence


class UserError(Exception):
    """Base of the errors that a command prints as one message, without a traceback, and ends with exit code 2."""

    @classmethod
    def listing(cls, heading: str, problems: Sequence[str], way_out: str, limit: int = 10) -> "UserError":
        """One message for several problems: the first ``limit`` of them, and how many more there are."""
        lines = [f"  {problem}" for problem in problems[:limit]]
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
