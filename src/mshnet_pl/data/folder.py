"""The name that scripts know ``data.sources.folder`` by."""

from mshnet_pl.data.sources.folder import Folder

__all__ = ["Folder"]
