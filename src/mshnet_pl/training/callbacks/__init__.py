"""What happens around training and testing: progress, health, tracking, and what ``callbacks=[...]`` chooses."""

from mshnet_pl.training.callbacks.monitor import Health
from mshnet_pl.training.callbacks.nonfinite import NONFINITE, FiniteSteps
from mshnet_pl.training.callbacks.panels import Panels
from mshnet_pl.training.callbacks.progress import Progress
from mshnet_pl.training.callbacks.save_on_signal import SaveOnSignal
from mshnet_pl.training.checkpoint_io import LAST, PREVIOUS, WholeCheckpoints
from mshnet_pl.training.wandb_logger import Tracker, track_sweep

__all__ = [
    "LAST", "NONFINITE", "PREVIOUS", "FiniteSteps", "Health", "Panels", "Progress", "SaveOnSignal", "Tracker",
    "WholeCheckpoints", "track_sweep",
]  # fmt: skip
