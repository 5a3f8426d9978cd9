"""The name that scripts know ``data.sources.base`` by."""

from mshnet_pl.data.sources.base import AbstractSource
from mshnet_pl.options import Subset

__all__ = ["AbstractSource", "Subset"]
