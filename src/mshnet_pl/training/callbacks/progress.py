"""Progress: a bar on a terminal, lines elsewhere."""

import logging
import os
import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

log = logging.getLogger(__name__)

LINES = "MSHNET_PL_PROGRESS_LINES"
"""Name of the environment variable that asks for lines on a terminal too, which several jobs share."""
_BAR_SECONDS, _LINE_SECONDS = 0.5, 30.0


class ProgressBar(TQDMProgressBar):
    """Lightning's progress bar on standard error, over all steps of training and with the running mIoU in tests.

    It is drawn from the first step on. Where standard error is no terminal, training logs a line twice a minute instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self._on_terminal = sys.stderr.isatty() and LINES not in os.environ
        self._last, self._start, self._begun = 0.0, 0, 0.0
        self.tested = ""
        """What the next test measures, for the bar's label."""

    @property
    def is_disabled(self) -> bool:
        """Whether no bar is drawn."""
        return not self._on_terminal or super().is_disabled

    def _bar(self, description: str, leave: bool = True, **kwargs: Any) -> Tqdm:  # noqa: ANN401 - of tqdm
        bar = {"leave": leave, "disable": self.is_disabled, "bar_format": self.BAR_FORMAT, "dynamic_ncols": True}
        return Tqdm(desc=description, file=sys.stderr, smoothing=0, **bar, **kwargs)

    def init_validation_tqdm(self) -> Tqdm:
        """See Lightning."""
        return self._bar(self.validation_description, leave=False, position=1)

    def init_predict_tqdm(self) -> Tqdm:
        """See Lightning."""
        return self._bar(self.predict_description)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws the bar of all steps."""
        self._start, self._begun = trainer.global_step, time.monotonic()
        self._last = 0.0 if self._on_terminal else self._begun
        total: Any = pl_module.planned_steps
        self.train_progress_bar = self._bar("Training", total=total, initial=self._start, unit=" steps")

    def on_train_epoch_start(self, trainer: pl.Trainer, *args: Any) -> None:  # noqa: ANN401
        """Keeps the one bar."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Shows step, time left and what was logged."""
        step, total = trainer.global_step, int(pl_module.planned_steps)  # type: ignore[arg-type]  # a property of ours
        if not self._should_update(step, total):
            return
        if self._on_terminal:
            self.train_progress_bar.n = step
            self.train_progress_bar.set_postfix(self.get_metrics(trainer, pl_module))
        else:
            seconds = (time.monotonic() - self._begun) / max(step - self._start, 1) * (total - step)
            shown = ", ".join(f"{name} {value:.4g}" for name, value in self.get_metrics(trainer, pl_module).items())
            log.info("step %d of %d, %s left: %s", step, total, Tqdm.format_interval(seconds), shown)

    def on_train_epoch_end(self, *args: Any) -> None:  # noqa: ANN401
        """Keeps the one bar."""

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draws the bar of all batches."""
        self._last = 0.0
        batches = sum(map(int, trainer.num_test_batches))
        self.test_progress_bar = self._bar(f"Testing {self.tested}".strip(), total=batches, unit=" batches")

    def on_test_batch_start(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Keeps the one bar."""

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Shows what the test has logged so far."""
        super().on_test_batch_end(trainer, pl_module, *args, **kwargs)
        self.test_progress_bar.set_postfix(self.get_metrics(trainer, pl_module), refresh=False)

    def on_exception(self, *args: Any) -> None:  # noqa: ANN401
        """Ends the bar's line, so that the message begins one of its own."""
        for bar in (self._train_progress_bar, self._val_progress_bar, self._test_progress_bar):
            if bar is not None:
                bar.close()

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Metrics by their last names."""
        return {name.rpartition("/")[2]: value for name, value in super().get_metrics(trainer, pl_module).items()}

    def _should_update(self, current: int, total: int) -> bool:
        now, wait = time.monotonic(), _BAR_SECONDS if self._on_terminal else _LINE_SECONDS
        if not self.is_enabled or not (now - self._last > wait or (self._on_terminal and current == total)):
            return False
        self._last = now
        return True
