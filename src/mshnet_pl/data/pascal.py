"""The name that scripts know ``data.sources.pascal5i`` by."""

from mshnet_pl.data.sources.pascal5i import Pascal5i

__all__ = ["Pascal5i"]
