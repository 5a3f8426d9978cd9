"""The same few episodes after every validation: what the network predicts, and where its similarities put their energy."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from mshnet_pl.callbacks.tracking import Tracker
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.transforms import to_image
from mshnet_pl.energy import energy_pictures
from mshnet_pl.episode import UNKNOWN, Episode
from mshnet_pl.metrics import episode_counts
from mshnet_pl.models.mshnet import MSHNet
from mshnet_pl.module import predict_labels
from mshnet_pl.report import energy

_LABELS = {0: "background", 1: "object", UNKNOWN: "unknown"}


class Panels(pl.Callback):
    """Sends pictures of the first validation episodes to wandb at each validation, or after training where there is none.

    Stands after callbacks that average weights, so that it shows what validation sees.

    Args:
        tracker: where they go, and how many.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

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
        if not trainer.is_global_zero or not self._tracker.panel:
            return
        datamodule: EpisodeDataModule = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it untyped
        batch = trainer.precision_plugin.convert_input(datamodule.panel(self._tracker.panel))
        batch = trainer.strategy.batch_to_device(batch)
        names = [datamodule.class_names[c] for c in batch.class_id.tolist()]
        titles = [f"episode {n}: {name}" for n, name in zip(batch.number.tolist(), names, strict=True)]
        with trainer.precision_plugin.forward_context():
            logits = torch.cat([pl_module(Episode(*(part[i : i + 1] for part in batch))).logits for i in range(len(names))])
            network = pl_module.method
            found = energy_pictures(network, batch, titles) if isinstance(network, MSHNet) else []
        predictions = _overlays(batch, predict_labels(logits, batch), titles)
        with self._tracker.shield():
            import wandb  # takes a second, which runs without it need not wait

            panel = {"panel/predictions": [wandb.Image(image, **arguments) for image, arguments in predictions]}
            if found:
                panel["panel/energy"] = [wandb.Image(energy.rasterise(energy.draw([e])), caption=e.title) for e in found]
            self._tracker.experiment.log({**panel, "trainer/global_step": trainer.global_step})


def _overlays(batch: Episode, predicted: Tensor, titles: Sequence[str]) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Each query with what ``wandb.Image`` needs to show truth and prediction over it."""
    counts = episode_counts(predicted, batch.query_mask, batch.class_id, batch.number).tolist()
    for i, (title, (_, _, intersection, positive, true, _)) in enumerate(zip(titles, counts, strict=True)):
        layers = {"truth": batch.query_mask[i], "prediction": predicted[i]}
        masks = {name: {"mask_data": mask.cpu().numpy(), "class_labels": _LABELS} for name, mask in layers.items()}
        iou = 100 * intersection / max(positive + true - intersection, 1)
        yield to_image(batch.query[i]), {"masks": masks, "caption": f"{title}, IoU {iou:.0f}"}
