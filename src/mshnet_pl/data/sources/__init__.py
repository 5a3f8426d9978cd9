"""Data sets: images and masks by name."""

from mshnet_pl.data.sources.base import AbstractSource
from mshnet_pl.data.sources.coco20i import Coco20i
from mshnet_pl.data.sources.folder import Folder
from mshnet_pl.data.sources.fss1000 import Fss1000
from mshnet_pl.data.sources.pascal5i import Pascal5i
from mshnet_pl.data.sources.synthetic import Synthetic

__all__ = ["AbstractSource", "Coco20i", "Folder", "Fss1000", "Pascal5i", "Synthetic"]
