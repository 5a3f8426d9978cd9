"""Errors that are the user's to mend: each message names the bad value, the place and the way out."""

from collections.abc import Sequence


class UserError(Exception):
    """Base of the errors that a command prints as one message, without a traceback, and ends with exit code 2."""


class ConfigError(UserError):
    """A setting, or a combination of settings, that cannot work."""


class DataError(UserError):
    """Files that are missing, damaged or not what they should be."""

    @classmethod
    def listing(cls, heading: str, problems: Sequence[str], way_out: str, most: int = 10) -> "DataError":
        """One message for several problems: the first ``most`` of them, and how many more there are."""
        lines = [f"  {problem}" for problem in problems[:most]]
        if len(problems) > most:
            lines.append(f"  ... and {len(problems) - most} more")
        return cls("\n".join([heading, *lines, way_out]))


class RunFailed(Exception):
    """A run's processes ended otherwise than by a ``UserError``; the run's log has the traceback."""
