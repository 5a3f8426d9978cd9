"""Few-shot segmentation with MSHNet (Shi et al., arXiv 2203.09550)."""

__version__ = "0.1.0"
