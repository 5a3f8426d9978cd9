"""Whether training is well and how fast it goes, for any logger."""

import time
from collections import deque
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.strategies import FSDPStrategy
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer


class Monitor(pl.Callback):
    """Logs ``train/grad_norm``, before any clipping, and ``train/episodes_per_second``.

    The rate is that of the last ``log_every_n_steps`` batches, of one for 0, with the time to load them and without
    validation.

    Args:
        batch_size: episodes in a batch of one process.
    """

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._ends: deque[float] = deque()

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        """Logs the 2-norm of all gradients together; nothing where they are shared out among processes."""
        if isinstance(trainer.strategy, FSDPStrategy):  # each process has a share of the gradients
            return
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        pl_module.log("train/grad_norm", get_total_norm(gradients))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock."""
        batches: int = max(trainer.log_every_n_steps, 1)  # type: ignore[attr-defined]  # untyped in Lightning
        self._ends = deque([time.perf_counter()], maxlen=batches + 1)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Logs the rate."""
        self._ends.append(time.perf_counter())
        episodes = (len(self._ends) - 1) * self._batch_size * trainer.world_size
        pl_module.log("train/episodes_per_second", episodes / (self._ends[-1] - self._ends[0]))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock again."""
        self._ends.clear()
        self._ends.append(time.perf_counter())
