"""Nested dictionaries by dotted names, such as ``data.source.root``."""

from collections.abc import Iterator, Mapping
from typing import Any

ABSENT = object()
"""What ``at`` gives where there is nothing; a value may be None."""


def at(node: object, key: str) -> Any:  # noqa: ANN401 - whatever a configuration holds
    """The value at a dotted name, or ``ABSENT``."""
    for name in key.split("."):
        node = node.get(name, ABSENT) if isinstance(node, Mapping) else ABSENT
    return node


def leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted name; an empty dictionary is one."""
    for name, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
