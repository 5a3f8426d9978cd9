"""The name that scripts know ``data.sources.fss1000`` by."""

from mshnet_pl.data.sources.fss1000 import Fss1000

__all__ = ["Fss1000"]
