"""Lightning's early stopping for runs that resume exactly."""

from math import inf
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping

from mshnet_pl.errors import ConfigError
from mshnet_pl.utils.numbers import is_number

_MONITORED = ("val/miou", "val/fb_iou", "val/iou/", "train/")
"""How the names begin that there may be."""


class ResumableEarlyStopping(EarlyStopping):
    """Lightning's early stopping; a stopped run that is started again stays stopped, unless with more patience.

    Args:
        monitor: what is to improve.
        patience: validations without an improvement that end training.
        min_delta: what counts as an improvement.
        others: Lightning's.

    Raises:
        ConfigError: a number that is none, or nothing that training logs.
    """

    def __init__(self, monitor: str, patience: int = 10, min_delta: int | float = 0.0, **others: Any) -> None:  # noqa: ANN401
        if not (type(patience) is int and patience >= 0 and is_number(min_delta, 0, inf)):
            raise ConfigError(
                f"callbacks.early_stopping: patience={patience}, min_delta={min_delta}; give a whole number and a number "
                "that are not negative"
            )
        if not str(monitor).startswith(_MONITORED):
            raise ConfigError(f"callbacks.early_stopping.monitor={monitor}: give val/miou, val/fb_iou or val/iou/CLASS")
        super().__init__(monitor, patience=patience, min_delta=min_delta, **others)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop at once where the checkpoint's patience was at its end."""
        trainer.should_stop = self.wait_count >= self.patience

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning's, once there is something to monitor.

        Raises:
            ConfigError: no such score.
        """
        if self.strict and self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics))
            raise ConfigError(
                f"callbacks.early_stopping.monitor={self.monitor}: there is no such score; give one of {known}"
            )
        super().on_validation_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Everything but the patience, which the configuration gives."""
        super().load_state_dict({**state_dict, "patience": self.patience})
