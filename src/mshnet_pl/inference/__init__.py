"""Prediction on images of one's own, and the refinements that tests share with it."""

from mshnet_pl.inference.segmenter import Segmenter
from mshnet_pl.inference.test_time import Refinement

__all__ = ["Refinement", "Segmenter"]
