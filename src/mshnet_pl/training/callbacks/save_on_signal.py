"""A checkpoint at the end of the step in which a signal came."""

import os
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from mshnet_pl.utils.signals import Interruption


class SaveOnSignal(Checkpoint):
    """Ends training at the next step's end after a signal, with a checkpoint of that step.

    Args:
        interruption: takes the signals.
        path: the checkpoint's.
    """

    def __init__(self, interruption: Interruption, path: Path) -> None:
        self._interruption, self._path = interruption, path
        self._step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From now on a signal waits for a step's end; Lightning has just set handlers of its own."""
        self._interruption.take()
        self._interruption.waits = True
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Save and end, in all processes together.

        Raises:
            Interrupted: there was a signal.
        """
        if trainer.global_step == self._step:  # gradients are being accumulated, and no checkpoint holds them
            return
        self._step = trainer.global_step
        came = self._interruption.signal is not None
        if trainer.strategy.reduce_boolean_decision(came, all=False):
            trainer.save_checkpoint(self._path)
            raise self._interruption.ended(f"stopped after step {self._step}, saved as {os.path.relpath(self._path)}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A signal that came with the last step."""
        self._interruption.waits = False
