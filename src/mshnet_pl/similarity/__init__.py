"""Similarities between a query and masked supports: cosine (CS), generative prototype (GPS), contrast."""

from mshnet_pl.similarity.base import AbstractSimilarity
from mshnet_pl.similarity.contrast import ContrastSimilarity
from mshnet_pl.similarity.cosine import CosineSimilarity
from mshnet_pl.similarity.prototype import PrototypeSimilarity

__all__ = ["AbstractSimilarity", "ContrastSimilarity", "CosineSimilarity", "PrototypeSimilarity"]
