"""JSON files that people may have edited: read as dataclasses, whose types are checked."""

import json
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

_MAX_DEPTH = 100
_LARGEST = 2**63
T = TypeVar("T")


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever is there
    """The content of a JSON file.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no JSON, or its lists and objects are nested more than 100 deep.
    """
    try:
        content = json.loads(path.read_text())
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    _check_depth(content, _MAX_DEPTH)
    return content


def as_record(kind: type[T], content: object) -> T:
    """A dataclass of what a JSON object says.

    Raises:
        TypeError: it is no object, or a field is missing, unknown or of another type; names it.
    """
    if not isinstance(content, dict):
        raise TypeError(f"expected an object, got {content!r:.50}")
    for name, hint in get_type_hints(kind).items():
        if name in content:
            check_type(name, content[name], hint)
    return kind(**content)


def check_type(name: str, value: object, hint: Any) -> None:  # noqa: ANN401 - a type, as annotations give it
    """Refuse a value of JSON that is not of a type: a plain one, ``Any``, a list, an object by name, or one of several.

    Raises:
        TypeError: says which and what was expected.
    """
    if not _fits(value, hint):
        raise TypeError(f"{name} is {value!r:.50}, expected {getattr(hint, '__name__', hint)}")


def _fits(value: object, hint: Any) -> bool:  # noqa: ANN401
    parts = get_args(hint)
    if isinstance(hint, UnionType):
        return any(_fits(value, part) for part in parts)
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(item, parts[0]) for item in value)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(_fits(item, parts[1]) for item in value.values())
    if hint is float or hint is int:
        return isinstance(value, int | hint) and not isinstance(value, bool) and not abs(value) >= _LARGEST
    return hint is Any or isinstance(value, hint)


def _check_depth(content: object, left: int) -> None:
    if not left:
        raise ValueError("nested too deep")
    for part in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        _check_depth(part, left - 1)
