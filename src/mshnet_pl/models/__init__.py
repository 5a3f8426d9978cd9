"""Few-shot segmentation methods."""

from mshnet_pl.models.asgnet.model import ASGNet
from mshnet_pl.models.base import AbstractMethod, SimilarityMethod
from mshnet_pl.models.baselines import ContrastBaseline, PrototypeBaseline
from mshnet_pl.models.cyctr.model import CyCTR
from mshnet_pl.models.density_ratio import DensityRatio
from mshnet_pl.models.fwb.model import FWB
from mshnet_pl.models.hsnet.model import HSNet
from mshnet_pl.models.mshnet.lite import MSHNetLite
from mshnet_pl.models.mshnet.model import MSHNet
from mshnet_pl.models.panet.model import PANet
from mshnet_pl.models.pfenet.model import PFENet
from mshnet_pl.models.ppnet.model import PPNet
from mshnet_pl.models.rpmm.model import RPMM

__all__ = [
    "FWB", "RPMM", "ASGNet", "AbstractMethod", "ContrastBaseline", "CyCTR", "DensityRatio", "HSNet", "MSHNet", "MSHNetLite",
    "PANet", "PFENet", "PPNet", "PrototypeBaseline", "SimilarityMethod",
]  # fmt: skip
