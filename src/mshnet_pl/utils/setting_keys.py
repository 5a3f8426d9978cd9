"""From an argument that a constructor refuses to the setting that a user changes."""

import re
from collections.abc import Mapping
from typing import Any

from mshnet_pl.utils.nested import at

_ARGUMENT = re.compile(r"(\w+)=")
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def with_key(message: str, key: str, config: Mapping[str, Any]) -> str:
    """``width=3: give ...`` of the constructor at ``model`` as ``model.width=3: give ...``.

    Args:
        message: begins with the argument and ``=``; any other is left as it is.
        key: where the constructor's node is, such as ``model.backbone``.
        config: the whole configuration, unresolved: where a part of the key refers to another setting, as
            ``model.backbone`` does to ``backbone``, that one's key is given.
    """
    argument = _ARGUMENT.match(message)
    if argument is None:
        return message
    place: list[str] = []
    for name in (*key.split("."), argument[1]):
        place.append(name)
        while reference := _REFERENCE.fullmatch(str(at(config, ".".join(place)))):
            place = reference[1].split(".")
    return ".".join(place) + message.removeprefix(argument[1])
