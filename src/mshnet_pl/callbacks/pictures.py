"""Pictures of a run's first test episodes."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from torch import Tensor

from mshnet_pl.data.transforms import to_image
from mshnet_pl.episode import Episode
from mshnet_pl.metrics import episode_counts
from mshnet_pl.module import predict_labels


class Pictures(pl.Callback):
    """Keeps the first episodes of each test as arrays, for ``report.figures`` to draw.

    Args:
        episodes: how many.
    """

    def __init__(self, episodes: int) -> None:
        self._episodes = episodes
        self._rows: list[dict[str, np.ndarray]] = []

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Each test starts anew."""
        self._rows = []

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Tensor,  # type: ignore[override]  # what EpisodicModule.test_step returns
        batch: Episode,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what is still missing."""
        missing = self._episodes - len(self._rows)
        if missing <= 0 or not trainer.is_global_zero:
            return
        masks = batch.query_mask
        predicted = predict_labels(outputs, batch)
        counts = episode_counts(predicted, masks, batch.class_id, batch.number).cpu()
        for i in range(min(missing, len(masks))):
            height, width = batch.query_size[i].tolist()
            intersection, positive, true = counts[i, 2:5].tolist()
            self._rows.append(
                {
                    "query": to_image(batch.query[i]),
                    "support": np.stack([to_image(image) for image in batch.support[i]]),
                    "support_mask": batch.support_mask[i].byte().cpu().numpy(),
                    "truth": masks[i, :height, :width].cpu().numpy(),
                    "prediction": predicted[i, :height, :width].cpu().numpy(),
                    "iou": np.array(100 * intersection / max(positive + true - intersection, 1)),
                    "class_id": np.array(batch.class_id[i].item()),
                    "number": np.array(batch.number[i].item()),
                }
            )

    def save(self, path: Path) -> None:
        """Write what was kept to an ``.npz`` file, arrays named ``EPISODE/WHAT``; nothing if nothing was kept."""
        if self._rows:
            arrays = {f"{i}/{key}": value for i, row in enumerate(self._rows) for key, value in row.items()}
            np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # numpy's stub of savez
