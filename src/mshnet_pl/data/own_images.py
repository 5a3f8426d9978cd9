"""The name that scripts know ``data.io.images`` and ``data.io.masks`` by."""

from mshnet_pl.data.io.images import read_image
from mshnet_pl.data.io.masks import read_mask

__all__ = ["read_image", "read_mask"]
