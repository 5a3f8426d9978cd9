"""Prediction on images of one's own, and the refinements that tests share with it."""

from mshnet_pl.inference.predictor import Predictor
from mshnet_pl.inference.segmenter import Segmenter

__all__ = ["Predictor", "Segmenter"]
