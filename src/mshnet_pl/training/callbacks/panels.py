"""The same few episodes after every validation: what the network predicts, and where its similarities put their energy."""

from collections.abc import Callable

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy

from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.io.transforms import to_image
from mshnet_pl.episode import Episode
from mshnet_pl.evaluation.energy import EnergyPicture, energy_pictures
from mshnet_pl.evaluation.metrics import episode_counts, row_iou
from mshnet_pl.inference.labels import predict_labels
from mshnet_pl.models.base import SimilarityMethod
from mshnet_pl.training.tensorboard_logger import TensorBoardTracker
from mshnet_pl.training.wandb_logger import WandbTracker


class ValidationPanels(pl.Callback):
    """Gives a logger pictures of the first validation episodes at each validation, or after training where there is none.

    Stands after callbacks that average weights, so that it shows what validation sees.

    Args:
        logger: where they go, and how many.
        draw_energy: gives an episode's energy maps as an image, (height, width, 3) uint8.
    """

    def __init__(
        self, logger: TensorBoardTracker | WandbTracker, draw_energy: Callable[[EnergyPicture], np.ndarray]
    ) -> None:
        self._logger, self._draw_energy = logger, draw_energy

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
        if not trainer.is_global_zero or not self._logger.panel or isinstance(trainer.strategy, FSDPStrategy):
            return  # where weights are shared out, one process alone cannot run the network
        datamodule: EpisodeDataModule = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it untyped
        batch = trainer.precision_plugin.convert_input(datamodule.panel(self._logger.panel))
        batch = trainer.strategy.batch_to_device(batch)
        names = [datamodule.class_names[c] for c in batch.class_id.tolist()]
        titles = [f"episode {n}: {name}" for n, name in zip(batch.number.tolist(), names, strict=True)]
        with trainer.precision_plugin.forward_context():
            alone = (Episode(*(part[i : i + 1] for part in batch)) for i in range(len(names)))
            logits = torch.cat([pl_module(one).comparable(one.query.shape[2:]) for one in alone])
            network = pl_module.method
            found = energy_pictures(network, batch, titles) if isinstance(network, SimilarityMethod) else []
        step = max(trainer.global_step - 1, 0)  # as Lightning counts the numbers of this validation
        predicted = predict_labels(logits, batch)
        ious = row_iou(episode_counts(predicted, batch.query_mask, batch.class_id, batch.number)).tolist()
        layers = {"truth": batch.query_mask.cpu().numpy(), "prediction": predicted.cpu().numpy()}
        captions = [f"{title}, IoU {iou:.0f}" for title, iou in zip(titles, ious, strict=True)]
        queries = [to_image(image) for image in batch.query]
        self._logger.log_episodes("panel/predictions", step, queries, titles, captions, layers)
        if found:
            maps = [self._draw_energy(picture) for picture in found]
            self._logger.log_episodes("panel/energy", step, maps, titles, titles, {})
