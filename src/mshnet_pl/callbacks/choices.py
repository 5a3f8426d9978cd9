"""Lightning's early stopping, weight averaging and learning-rate finder, made to fit runs that resume exactly."""

import logging
from math import inf
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, LearningRateFinder, WeightAveraging
from pytorch_lightning.strategies import FSDPStrategy
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mshnet_pl.errors import ConfigError

log = logging.getLogger(__name__)


def _is_number(value: object, least: int | float, most: int | float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


class Patience(EarlyStopping):
    """Lightning's early stopping; a stopped run that is started again stays stopped, unless with more patience.

    Args:
        monitor: what is to improve.
        patience: validations without an improvement that end training.
        min_delta: what counts as an improvement.
        others: Lightning's.

    Raises:
        ConfigError: a number that is none.
    """

    def __init__(self, monitor: str, patience: int = 10, min_delta: int | float = 0.0, **others: Any) -> None:  # noqa: ANN401
        if not (type(patience) is int and patience >= 0 and _is_number(min_delta, 0, inf)):
            raise ConfigError(
                f"callbacks.early_stopping: patience={patience}, min_delta={min_delta}; give a whole number and a number "
                "that are not negative"
            )
        super().__init__(monitor, patience=patience, min_delta=min_delta, **others)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop at once where the checkpoint's patience was at its end."""
        trainer.should_stop = self.wait_count >= self.patience

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Everything but the patience, which the configuration gives."""
        super().load_state_dict({**state_dict, "patience": self.patience})


class ExponentialAverage(WeightAveraging):
    """Lightning's averaging of all weights and buffers after every step: validation and tests see the averages.

    Weights that do not change, the frozen backbone's, are not changed by averaging either, not even in rounding.
    Checkpoints hold the averages as the network's weights, and beside them those that training goes on with.

    Args:
        decay: of the exponential moving average, in 0..1.

    Raises:
        ConfigError: another decay.
    """

    def __init__(self, decay: int | float = 0.999) -> None:
        if not _is_number(decay, 0, 1):
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


class RateFinder(LearningRateFinder):
    """Lightning's search for a learning rate (Smith, WACV 2017), once, before the first step.

    Training then starts as if there had been no search and ``optimizer.lr`` were the rate that was found. A resumed run
    goes on with the rate in its checkpoint.

    Args:
        min_lr: the search's first rate.
        max_lr: its last one.
        num_training_steps: how many rates are tried.
        early_stop_threshold: ends the search where the loss exceeds this many times the best; None never does.
        others: Lightning's.

    Raises:
        ConfigError: no such range; or, when training starts, no rate was found.
    """

    def __init__(
        self,
        min_lr: int | float = 1e-5,
        max_lr: int | float = 1.0,
        num_training_steps: int = 100,
        early_stop_threshold: int | float | None = 4.0,
        **others: Any,  # noqa: ANN401 - Lightning's
    ) -> None:
        if not (_is_number(min_lr, 0, inf) and _is_number(max_lr, min_lr, inf) and 0 < min_lr < max_lr < inf):
            raise ConfigError(f"callbacks.lr_finder: min_lr={min_lr}, max_lr={max_lr}; give numbers above 0, ascending")
        if type(num_training_steps) is not int or num_training_steps < 2:
            raise ConfigError(f"callbacks.lr_finder.num_training_steps={num_training_steps}: give at least 2")
        if early_stop_threshold is not None and not _is_number(early_stop_threshold, 0, inf):
            raise ConfigError(f"callbacks.lr_finder.early_stop_threshold={early_stop_threshold}: give a number, or null")
        super().__init__(min_lr, max_lr, num_training_steps, early_stop_threshold=early_stop_threshold, **others)
        self._lr: float | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Search, then build optimizer and schedule anew."""
        if not trainer.ckpt_path:
            source = trainer.fit_loop.epoch_loop.val_loop._data_source
            ours, source.instance = source.instance, pl.LightningDataModule()  # a search validates nothing
            try:
                super().on_fit_start(trainer, pl_module)
            finally:
                source.instance = ours
            self._lr = self.optimal_lr.suggestion() if self.optimal_lr else None
            if self._lr is None:
                raise ConfigError(
                    f"callbacks=[lr_finder]: {self._num_training_steps} steps between {self._min_lr:g} and {self._max_lr:g} "
                    "show no good rate; change num_training_steps, min_lr or max_lr of callbacks.lr_finder, or leave "
                    "lr_finder out and give optimizer.lr"
                )
            trainer.strategy.setup_optimizers(trainer)
            log.info("learning rate: %g", self._lr)
        pl_module.lr = self._lr  # type: ignore[assignment]  # EpisodicModule's

    def state_dict(self) -> dict[str, Any]:
        """The rate that was found."""
        return {"lr": self._lr}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with that rate."""
        self._lr = state_dict["lr"]
