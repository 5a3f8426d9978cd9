"""Lightning's learning-rate finder for runs that resume exactly."""

import logging
from math import inf
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import LearningRateFinder

from mshnet_pl.errors import ConfigError
from mshnet_pl.utils.numbers import is_number

log = logging.getLogger(__name__)


class ResumableLRFinder(LearningRateFinder):
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
        if not (is_number(min_lr, 0, inf) and is_number(max_lr, min_lr, inf) and 0 < min_lr < max_lr < inf):
            raise ConfigError(f"callbacks.lr_finder: min_lr={min_lr}, max_lr={max_lr}; give numbers above 0, ascending")
        if type(num_training_steps) is not int or num_training_steps < 2:
            raise ConfigError(f"callbacks.lr_finder.num_training_steps={num_training_steps}: give at least 2")
        if early_stop_threshold is not None and not is_number(early_stop_threshold, 0, inf):
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
