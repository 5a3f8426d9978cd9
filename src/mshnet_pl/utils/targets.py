"""What a ``_target_`` of a configuration names: a class or a function, by its dotted path."""

from importlib import import_module
from typing import Any


def class_name(target: object) -> str:
    """Its last part, which stays when a file moves: ``MSHNet`` of ``mshnet_pl.models.MSHNet``."""
    return str(target).rpartition(".")[2]


def imported(target: str) -> Any:  # noqa: ANN401 - whatever it names
    """The class or function itself.

    Raises:
        ImportError: there is no such module.
        AttributeError: the module has no such name.
    """
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)
