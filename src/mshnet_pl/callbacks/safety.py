"""Checkpoints that survive what happens to a run."""

import io
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from mshnet_pl.files import write_whole
from mshnet_pl.interruption import Interruption

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints whole or not at all, and keeps the one before ``last.ckpt`` as ``previous.ckpt``.

    A ``last.ckpt`` that this process neither wrote nor read takes no good one's place: it may be damaged.
    """

    def __init__(self) -> None:
        self._known: set[Path] = set()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """See the base class.

        Raises:
            DataError: the disk is full, or the folder cannot be written.
        """
        place = Path(path)
        content = io.BytesIO()
        torch.save(checkpoint, content)
        keep = place.name == LAST and place in self._known
        write_whole(place, content.getvalue(), place.with_name(PREVIOUS) if keep else None)
        self._known.add(place)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,  # noqa: ANN401 - torch's
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """See the base class; nothing in the file is executed, whatever ``weights_only`` says."""
        loaded = super().load_checkpoint(path, map_location or (lambda storage, _: storage), weights_only=True)
        self._known.add(Path(path))
        return loaded


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
            raise self._interruption.ended(f"stopped after step {self._step}, saved as {self._path}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A signal that came with the last step."""
        self._interruption.waits = False
