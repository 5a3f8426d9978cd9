"""Descriptions that come with a file, of a network or of a run: plain data, checked before anything is made of them.

A description is a tree. Its nodes have a class's public name under ``_target_``, ``_partial_`` perhaps, and the arguments:
numbers, words, null, lists, further nodes.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from functools import reduce
from math import isfinite
from typing import Any

from mshnet_pl.utils.targets import public

MAX_VALUES, MAX_DEPTH = 10_000, 20
"""Of a description's tree."""
MAX_NUMBER = 2**32
"""The largest magnitude of a whole number; seeds are the largest that there are."""
MAX_LETTERS = 1000
_REFERENCE = re.compile(r"\$\{([a-z]\w*(?:\.\w+)*)\}")
_SLASHES = (".weights", ".monitor")
"""Arguments that may have some: where a backbone's weights came from, which nothing reads again, and a score's name."""


def check_description(
    description: object, place: str, packages: Collection[str] = (), references: Collection[str] = ()
) -> None:
    """Refuse whatever is no description; nothing is imported but ``packages``, and nothing is called.

    Args:
        description: the tree.
        place: what messages call it, such as ``model``.
        packages: whose public classes (of this package, functions too) a ``_target_`` may name.
        references: the settings, or their groups, that a value may refer to as ``${name.name}``.

    Raises:
        ValueError: says which value is wrong, and how; a name of none of the packages among them.
        ImportError: a named package needs a library that is not installed.
    """
    for at, name, value in walk(description, place):
        _check_name(name, at)
        if name == "_target_":
            public(str(value), packages)
        elif not isinstance(value, Mapping | list | tuple):
            _check_leaf(value, at, references)


def walk(tree: object, place: str) -> Iterator[tuple[str, object, object]]:
    """Every value in a tree of mappings and lists, they themselves too, with its dotted place and the last name in that.

    Raises:
        ValueError: there are more than ``MAX_VALUES``, as where one list stands in many places, or they are nested deeper.
    """
    open_ = [(place, place, tree, 0)]
    for _ in range(MAX_VALUES):
        if not open_:
            return
        at, name, node, depth = open_.pop()
        if depth > MAX_DEPTH:
            raise ValueError(f"{at}: nested more than {MAX_DEPTH} deep")
        yield at, name, node
        if isinstance(node, Mapping):
            open_ += [(f"{at}.{key}", key, value, depth + 1) for key, value in reversed([*node.items()])]
        elif isinstance(node, list | tuple):
            open_ += [(at, name, value, depth + 1) for value in reversed(node)]
    if open_:
        raise ValueError(f"{place}: more than {MAX_VALUES:,} values")


def resolve(config: Mapping[str, Any], key: str) -> Any:  # noqa: ANN401 - whatever stands there
    """The value at ``key``, a dotted name, with every plain reference in it replaced by what it refers to.

    Raises:
        ValueError: a reference of another form than ``${name.name}``, or a recursion.
        KeyError: a reference to nothing.
    """
    left = iter(range(MAX_VALUES))

    def resolved(node: Any, place: str, depth: int) -> Any:  # noqa: ANN401 - as above
        if next(left, None) is None or depth > MAX_DEPTH:
            raise ValueError(f"{place}: a recursion, or more than {MAX_VALUES:,} values")
        if isinstance(node, Mapping):
            return {name: resolved(value, f"{place}.{name}", depth + 1) for name, value in node.items()}
        if isinstance(node, list | tuple):
            return [resolved(value, place, depth + 1) for value in node]
        if not (isinstance(node, str) and "${" in node):
            return node
        reference = _REFERENCE.fullmatch(node)
        if reference is None:
            raise ValueError(f"{place}={node}: no plain reference to another setting")
        return resolved(_at(config, reference[1]), place, depth + 1)

    return resolved(_at(config, key), key, 0)


def _at(config: Mapping[str, Any], key: str) -> Any:  # noqa: ANN401
    return reduce(lambda group, name: group[name], key.split("."), config)


def _check_name(name: object, place: str) -> None:
    if not isinstance(name, str | int) or (str(name).startswith("_") and name not in ("_target_", "_partial_")):
        raise ValueError(f"{place}: {str(name)[:40]!r} is no argument's name")
    _check_text(str(name), place)


def _check_leaf(value: object, place: str, references: Collection[str]) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, float):
        if not isfinite(value):
            raise ValueError(f"{place}={value}: give a finite number")
    elif isinstance(value, int):
        if abs(value) > MAX_NUMBER:
            raise ValueError(f"{place} is a whole number of {value.bit_length()} bits: give one of at most {MAX_NUMBER:,}")
    elif not isinstance(value, str):
        raise ValueError(f"{place}: a {type(value).__name__}, neither number nor text")
    elif not _refers(value, references):
        _check_text(value, place, slashes=place.endswith(_SLASHES))


def _refers(value: str, references: Collection[str]) -> bool:
    reference = _REFERENCE.fullmatch(value)
    return reference is not None and any(f"{reference[1]}.".startswith(f"{one}.") for one in references)


def _check_text(text: str, place: str, slashes: bool = False) -> None:
    """Plain words alone: such a text may become part of a folder's name, of a table, or of a page."""
    if len(text) > MAX_LETTERS:
        raise ValueError(f"{place}: a text of {len(text):,} letters; at most {MAX_LETTERS:,}")
    if "${" in text:
        raise ValueError(f"{place} is computed as {text}, which no checkpoint of this project does")
    if not text.isprintable() or (not slashes and (re.search(r"[/\\]", text) or text.startswith(".."))):
        raise ValueError(f"{place}={text!r}: a path, or letters that cannot be printed")
