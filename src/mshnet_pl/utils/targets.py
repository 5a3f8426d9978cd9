"""What a ``_target_`` of a configuration names: a class or a function, by its dotted path."""

from collections.abc import Collection, Mapping
from importlib import import_module
from types import FunctionType
from typing import Any

NETWORK = ("mshnet_pl.backbones", "mshnet_pl.models", "mshnet_pl.similarity")
"""Packages whose public classes make a network."""
RUN = (
    *NETWORK,
    "mshnet_pl.data.sources",
    "mshnet_pl.training",
    "torch.optim",
    "pytorch_lightning",
    *(f"pytorch_lightning.{package}" for package in ("callbacks", "loggers", "strategies")),
)
"""Packages whose public names a run's configuration may have."""


_METHODS = {"MSHNetLite": "MSHNet-lite"}
"""Names of methods, where they are not their classes'."""


def method_name(target: object) -> str:
    """What tables and trackers call the method that a ``_target_`` names."""
    name = class_name(target)
    return _METHODS.get(name, name)


def backbone_name(node: Mapping[str, Any]) -> str:
    """``ResNet-50`` and the like of a backbone's node; of timm's networks the name."""
    return str(node.get("name") or class_name(node["_target_"]) + (f"-{node['depth']}" if node.get("depth") else ""))


def network_name(config: Mapping[str, Any]) -> str:
    """What ablations compare, such as ``MSHNet cosine+prototype, no_atrous``, by a whole configuration."""
    model, variant = config["model"], config.get("variant", "full")
    name = " ".join(filter(None, (method_name(model["_target_"]), "+".join(model.get("similarities") or ()))))
    return name if variant == "full" else f"{name}, {variant}"


def class_name(target: object) -> str:
    """Its last part, which stays when a file moves: ``MSHNet`` of ``mshnet_pl.models.MSHNet``."""
    return str(target).rpartition(".")[2]


def public(target: str, packages: Collection[str]) -> Any:  # noqa: ANN401 - a class or a function
    """What one of ``packages`` exports under that name: a class, or a function of this project. Nothing else is imported.

    Raises:
        ValueError: none of them exports it.
        ImportError: the package needs a library that is not installed.
    """
    package, _, name = target.rpartition(".")
    if package in packages:
        module = import_module(package)
        part = getattr(module, name) if name in module.__all__ else None
        if isinstance(part, type) or (isinstance(part, FunctionType) and package.startswith("mshnet_pl.")):
            return part
    raise ValueError(f"{target} is no public class of {', '.join(packages)}; it is not loaded")
