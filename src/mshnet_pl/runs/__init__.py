"""One run, one sweep, one prediction job: configuration in, result out."""

from mshnet_pl.runs.jobs import Sweep

__all__ = ["Sweep"]
