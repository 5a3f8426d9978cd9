"""The LightningModule, its loss, schedules, callbacks and loggers."""

from mshnet_pl.training.callbacks.early_stopping import ResumableEarlyStopping
from mshnet_pl.training.callbacks.ema import ExponentialMovingAverage
from mshnet_pl.training.callbacks.lr_finder import ResumableLRFinder
from mshnet_pl.training.csv_logger import CSVTracker
from mshnet_pl.training.module import EpisodicModule
from mshnet_pl.training.optimizers import SGDAndAdamW
from mshnet_pl.training.schedules import constant, every_epochs, every_steps, exponential, polynomial
from mshnet_pl.training.tensorboard_logger import TensorBoardTracker
from mshnet_pl.training.wandb_logger import WandbTracker

__all__ = [
    "CSVTracker", "EpisodicModule", "ExponentialMovingAverage", "ResumableEarlyStopping", "ResumableLRFinder",
    "SGDAndAdamW", "TensorBoardTracker", "WandbTracker", "constant", "every_epochs", "every_steps", "exponential",
    "polynomial",
]  # fmt: skip
