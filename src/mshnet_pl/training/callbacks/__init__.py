"""What happens around training and testing: progress, health, tracking, and what ``callbacks=[...]`` chooses."""

from mshnet_pl.training.callbacks.monitor import Monitor
from mshnet_pl.training.callbacks.nonfinite import NONFINITE, NonfiniteGuard
from mshnet_pl.training.callbacks.panels import ValidationPanels
from mshnet_pl.training.callbacks.progress import ProgressBar
from mshnet_pl.training.callbacks.save_on_signal import SaveOnSignal
from mshnet_pl.training.checkpoint_io import LAST, PREVIOUS, AtomicCheckpoints
from mshnet_pl.training.wandb_logger import WandbTracker, track_sweep

__all__ = [
    "LAST", "NONFINITE", "PREVIOUS", "AtomicCheckpoints", "Monitor", "NonfiniteGuard", "ProgressBar", "SaveOnSignal",
    "ValidationPanels", "WandbTracker", "track_sweep",
]  # fmt: skip
