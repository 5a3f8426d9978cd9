"""Few-shot segmentation methods."""

from mshnet_pl.models.base import AbstractMethod, SimilarityMethod
from mshnet_pl.models.baselines import ContrastBaseline, PrototypeBaseline
from mshnet_pl.models.density_ratio import DensityRatio
from mshnet_pl.models.hsnet.model import HSNet
from mshnet_pl.models.mshnet.lite import MSHNetLite
from mshnet_pl.models.mshnet.model import MSHNet
from mshnet_pl.models.panet.model import PANet
from mshnet_pl.models.pfenet.model import PFENet

__all__ = [
    "AbstractMethod", "ContrastBaseline", "DensityRatio", "HSNet", "MSHNet", "MSHNetLite", "PANet", "PFENet",
    "PrototypeBaseline", "SimilarityMethod",
]  # fmt: skip
