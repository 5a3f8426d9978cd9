"""Few-shot segmentation with MSHNet (Shi et al., arXiv 2203.09550)."""

from mshnet_pl.segmenter import Segmenter

__version__ = "0.1.0"
__all__ = ["Segmenter"]
