"""One run, one sweep, one prediction job: configuration in, result out."""

from mshnet_pl.runs.sweeps import Sweep

__all__ = ["Sweep"]
