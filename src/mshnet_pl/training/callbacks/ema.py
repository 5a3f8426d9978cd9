"""Lightning's weight averaging for runs that resume exactly."""

from itertools import chain
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.strategies import FSDPStrategy
from torch.autograd.graph import increment_version
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mshnet_pl.errors import ConfigError
from mshnet_pl.utils.numbers import is_number


class ExponentialMovingAverage(WeightAveraging):
    """Lightning's averaging of all weights and buffers after every step: validation and tests see the averages.

    Weights that do not change, the frozen backbone's, are not changed by averaging either, not even in rounding.
    Checkpoints hold the averages as the network's weights, and beside them those that training goes on with.

    Args:
        decay: of the exponential moving average, in 0..1.

    Raises:
        ConfigError: another decay.
    """

    def __init__(self, decay: int | float = 0.999) -> None:
        if not is_number(decay, 0, 1):
            raise ConfigError(f"callbacks.ema.decay={decay}: give a number from 0 to 1")
        super().__init__(multi_avg_fn=get_ema_multi_avg_fn(decay))
        self._swapped = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Each training starts with an average of its own.

        Raises:
            ConfigError: the weights are shared out among processes.
        """
        if isinstance(trainer.strategy, FSDPStrategy):
            raise ConfigError("callbacks=[ema] cannot average weights that strategy=fsdp shares out; take strategy=ddp")
        super().setup(trainer, pl_module, stage)
        self._swapped = self._swapped and stage != "fit"

    def _swap_models(self, pl_module: pl.LightningModule) -> None:
        """Lightning's, whose writing past the version counters of tensors would hide that they changed: ``WeightCache``."""
        super()._swap_models(pl_module)
        for tensor in chain(pl_module.parameters(), pl_module.buffers()):
            increment_version(tensor)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the averages to the network, and keep what training would go on with for later checkpoints."""
        self._swap_models(pl_module)
        self._swapped = True

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """See the class."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._swapped:
            current, average = checkpoint["state_dict"], checkpoint["current_model_state"]
            checkpoint["state_dict"], checkpoint["current_model_state"] = average, current
