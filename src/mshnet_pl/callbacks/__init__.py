"""What happens around training and testing: progress, health, tracking, and what ``callbacks=[...]`` chooses."""

from mshnet_pl.callbacks.finite import NONFINITE, FiniteSteps
from mshnet_pl.callbacks.health import Health
from mshnet_pl.callbacks.panels import Panels
from mshnet_pl.callbacks.progress import Progress
from mshnet_pl.callbacks.safety import LAST, PREVIOUS, SaveOnSignal, WholeCheckpoints
from mshnet_pl.callbacks.tracking import Tracker, track_sweep

__all__ = [
    "LAST", "NONFINITE", "PREVIOUS", "FiniteSteps", "Health", "Panels", "Progress", "SaveOnSignal", "Tracker",
    "WholeCheckpoints", "track_sweep",
]  # fmt: skip
