"""Scores, energy maps and pictures of episodes."""

from mshnet_pl.evaluation.metrics import EpisodeIoU

__all__ = ["EpisodeIoU"]
