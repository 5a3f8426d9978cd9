"""Progress on the terminal."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar


class ProgressBar(TQDMProgressBar):
    """Lightning's progress bar, with the running mIoU in tests too."""

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Shows what the test has logged so far."""
        super().on_test_batch_end(trainer, pl_module, *args, **kwargs)
        self.test_progress_bar.set_postfix(self.get_metrics(trainer, pl_module), refresh=False)
