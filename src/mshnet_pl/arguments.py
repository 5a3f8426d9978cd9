"""``key=value`` arguments of the commands that need no configuration."""

import difflib
from collections.abc import Mapping, Sequence

from mshnet_pl.errors import ConfigError


def parse(settings: Sequence[str], known: Mapping[str, bool], usage: str) -> dict[str, str]:
    """Values by key; one that is empty or ``null`` counts as not given.

    Args:
        settings: as on the command line.
        known: the keys that there are, and which of them must be given.
        usage: what messages show.

    Raises:
        ConfigError: an unknown key, one given twice, or one that is lacking.
    """
    values: dict[str, str] = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if key not in known or not separator:
            close = difflib.get_close_matches(key, known, n=1)
            meant = f"; did you mean {close[0]}=...?" if close else ""
            raise ConfigError(f"{setting}: there is no such setting here{meant}\nusage: {usage}")
        if key in values:
            raise ConfigError(f"{setting}: {key}={values[key]} is given too; give it once")
        if value not in ("", "null"):
            values[key] = value
    lacking = [key for key, needed in known.items() if needed and key not in values]
    if lacking:
        raise ConfigError(f"{lacking[0]} is not set\nusage: {usage}")
    return values
