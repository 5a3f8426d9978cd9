"""The same few episodes after every validation: what the network predicts, and where its similarities put their energy."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy
from torch import Tensor

from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.io.transforms import to_image
from mshnet_pl.episode import UNKNOWN, Episode
from mshnet_pl.evaluation.energy import EnergyPicture, energy_pictures
from mshnet_pl.evaluation.metrics import episode_counts, row_iou
from mshnet_pl.inference.labels import predict_labels
from mshnet_pl.models.base import SimilarityMethod
from mshnet_pl.training.wandb_logger import WandbTracker

_LABELS = {0: "background", 1: "object", UNKNOWN: "unknown"}


class ValidationPanels(pl.Callback):
    """Sends pictures of the first validation episodes to wandb at each validation, or after training where there is none.

    Stands after callbacks that average weights, so that it shows what validation sees.

    Args:
        tracker: where they go, and how many.
        draw_energy: gives an episode's energy maps as an image, (height, width, 3) uint8.
    """

    def __init__(self, tracker: WandbTracker, draw_energy: Callable[[EnergyPicture], np.ndarray]) -> None:
        self._tracker, self._draw_energy = tracker, draw_energy

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See the class."""
        self._send(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """See the class."""
        if not trainer.enable_validation:
            mode = pl_module.training
            pl_module.eval()
            self._send(trainer, pl_module)
            pl_module.train(mode)

    @torch.no_grad()
    def _send(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or not self._tracker.panel or isinstance(trainer.strategy, FSDPStrategy):
            return  # where weights are shared out, one process alone cannot run the network
        datamodule: EpisodeDataModule = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it untyped
        batch = trainer.precision_plugin.convert_input(datamodule.panel(self._tracker.panel))
        batch = trainer.strategy.batch_to_device(batch)
        names = [datamodule.class_names[c] for c in batch.class_id.tolist()]
        titles = [f"episode {n}: {name}" for n, name in zip(batch.number.tolist(), names, strict=True)]
        with trainer.precision_plugin.forward_context():
            alone = (Episode(*(part[i : i + 1] for part in batch)) for i in range(len(names)))
            logits = torch.cat([pl_module(one).comparable(one.query.shape[2:]) for one in alone])
            network = pl_module.method
            found = energy_pictures(network, batch, titles) if isinstance(network, SimilarityMethod) else []
        step = max(trainer.global_step - 1, 0)  # as Lightning counts the numbers of this validation
        with self._tracker.shield():
            masks, captions = _overlays(batch, predict_labels(logits, batch), titles)
            images = [to_image(image) for image in batch.query]
            self._tracker.log_image("panel/predictions", images, step, masks=masks, caption=captions)
            if found:
                images = [self._draw_energy(picture) for picture in found]
                self._tracker.log_image("panel/energy", images, step, caption=titles)


def _overlays(batch: Episode, predicted: Tensor, titles: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """What ``wandb.Image`` needs to show truth and prediction over each query, and what to say of it."""
    layers = {"truth": batch.query_mask.cpu().numpy(), "prediction": predicted.cpu().numpy()}
    masks = [
        {name: {"mask_data": layer[i], "class_labels": _LABELS} for name, layer in layers.items()}
        for i in range(len(titles))
    ]
    ious = row_iou(episode_counts(predicted, batch.query_mask, batch.class_id, batch.number))
    return masks, [f"{title}, IoU {iou:.0f}" for title, iou in zip(titles, ious.tolist(), strict=True)]
