"""What a ``_target_`` of a configuration names: a class or a function, by its dotted path."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any


def class_name(target: object) -> str:
    """Its last part, which stays when a file moves: ``MSHNet`` of ``mshnet_pl.models.MSHNet``."""
    return str(target).rpartition(".")[2]


NETWORK = ("mshnet_pl.models", "mshnet_pl.backbones", "mshnet_pl.similarity")
"""Packages whose public classes make a network."""


def public(target: str, packages: Sequence[str]) -> Any:  # noqa: ANN401 - a class or a function
    """What one of ``packages`` exports under that name; nothing else is imported, whatever ``target`` names.

    Raises:
        ValueError: none of them exports it.
    """
    package, _, name = target.rpartition(".")
    module = import_module(package) if package in packages else None
    if module is None or name not in module.__all__:
        raise ValueError(f"{target} is no public name of {', '.join(packages)}; it is not loaded")
    return getattr(module, name)


def imported(target: str) -> Any:  # noqa: ANN401 - whatever it names
    """The class or function itself.

    Raises:
        ImportError: there is no such module.
        AttributeError: the module has no such name.
    """
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)
