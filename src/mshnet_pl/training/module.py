"""The LightningModule: trains and tests any method on episodes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mshnet_pl.data.loading.cached_backbone import CachedBackbone
from mshnet_pl.episode import Episode, Prediction
from mshnet_pl.errors import ConfigError
from mshnet_pl.evaluation.metrics import EpisodeIoU, Scores, episode_counts, scores
from mshnet_pl.inference.labels import margins, predict_labels
from mshnet_pl.inference.predictor import Predictor
from mshnet_pl.inference.presence import presence
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.options import EVERY_FOLD, Criterion, Fusion, LossGrid
from mshnet_pl.training.dead_taps import single_precision_for_dead_taps
from mshnet_pl.training.losses import episode_loss
from mshnet_pl.training.optimizers import grouped, scale_rates
from mshnet_pl.training.plan import planned_steps, steps_per_epoch


class Predicted(NamedTuple):
    """What a test makes of a batch."""

    labels: UInt8[Tensor, "batch height width"]
    """Of the queries, as tests count them."""
    counts: Int64[Tensor, "batch 6"]
    """As ``episode_counts``."""
    presences: list[float]
    """Of every row's class in its query, see ``inference.presence``."""


class EpisodicModule(pl.LightningModule):
    """Training, validation and test steps around a method.

    Dropout and any other randomness of a training step is seeded by (seed, episode number), so that an interrupted run goes
    on exactly as an uninterrupted one.

    Args:
        method: segments queries.
        optimizer: from parameters to an optimizer; may be left out where nothing is trained.
        schedule: from (optimizer, total_steps, steps_per_epoch) to a scheduler that steps with the optimizer.
        inner_weight: weight of each intermediate loss.
        ignore_unknown: leave pixels labelled 255 out of the loss.
        foreground_weight: what a pixel of the object counts in the loss.
        loss_grid: where logits and masks meet in the loss.
        criterion: what compares them.
        seed: of the steps' randomness.
        config: plain dictionary that rebuilds all this; saved in checkpoints.
        flip: tests also predict the mirrored images.
        scales: factors of the image size that tests predict at.
        fusion: how the supports of a test become one prediction.
        guided: radius of the guided filter of tests as a share of the query's side; 0 for no filter.
        zooms: how much larger than its object the parts are by which tests show supports again.
        fold: of PASCAL-5i, where that is tested; see ``Predictor``.
        groups: of parameters with rates of their own.
    """

    def __init__(
        self,
        method: AbstractMethod,
        optimizer: Callable[[Any], Optimizer] | None = None,
        schedule: Callable[..., LRScheduler] | None = None,
        inner_weight: float = 1 / 3,
        ignore_unknown: bool = False,
        foreground_weight: float = 1.0,
        loss_grid: LossGrid = LossGrid.logits,
        criterion: Criterion = Criterion.cross_entropy,
        seed: int = 0,
        config: Mapping[str, Any] | None = None,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        fusion: str = Fusion.network,
        guided: float = 0.0,
        zooms: Sequence[float] = (),
        fold: int | str = EVERY_FOLD,
        groups: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.method, self._groups = method, groups or {}
        self.backbone = CachedBackbone(method.backbone)
        """The method's, with the features that are kept."""
        self.predictor = Predictor(method, flip, scales, fusion, guided, zooms, backbone=self.backbone, fold=fold)
        """How tests predict; validation predicts plainly."""
        self._plainly = Predictor(method, backbone=self.backbone)
        self._optimizer, self._schedule = optimizer, schedule
        self._loss = partial(
            episode_loss,
            inner_weight=inner_weight,
            ignore_unknown=ignore_unknown,
            foreground_weight=foreground_weight,
            grid=loss_grid,
            criterion=criterion,
        )
        self._seed = seed
        self.save_hyperparameters({"config": dict(config or {})})
        self.lr: float | None = None
        """Takes the place of the optimizer's own learning rate; what a search sets."""
        self.train_iou, self.val_iou, self.test_iou = EpisodeIoU(), EpisodeIoU(), EpisodeIoU()
        self.test_counts = self.test_iou.counts()
        """The counts of the last test, by episode number."""

    def forward(self, episode: Episode) -> Prediction:
        """Logits for the episode's queries; their masks are not looked at."""
        if not self.backbone.keeps:
            prediction: Prediction = self.method(episode.query, episode.support, episode.support_mask)
            return prediction
        query = self.backbone(episode.query, episode.query_id)
        support = self.backbone(episode.support.flatten(0, 1), episode.support_id.flatten())
        shots = episode.support_id.shape
        code = self.method.encode(tuple(f.unflatten(0, shots) for f in support), episode.support_mask)
        del support  # not kept for the backward pass
        return self.method.decode(query, code)

    def loss(self, batch: Episode) -> tuple[Tensor, dict[str, Tensor], Prediction]:
        """The loss of eq. 1 (), its parts, and the prediction; the same whenever it is asked for the same episodes."""
        step_seed = np.random.SeedSequence((self._seed, int(batch.number[0]))).generate_state(1)
        torch.manual_seed(int(step_seed[0]))
        with single_precision_for_dead_taps(batch.query):
            prediction = self(batch)
            loss, parts = self._loss(prediction, batch.query_mask, class_id=batch.class_id)
        return loss, parts, prediction

    def training_step(self, batch: Episode, batch_idx: int) -> Tensor:
        """The loss of eq. 1.

        Raises:
            ConfigError: batches too small for batch normalisation.
        """
        try:
            loss, parts, prediction = self.loss(batch)
        except ValueError as error:
            if not str(error).startswith("Expected more than 1 value per channel"):
                raise
            size, side = len(batch.query), batch.query.shape[-1]
            raise ConfigError(
                f"data.batch_size={size} with data.image_size={side} leaves batch normalisation one value a channel; give a "
                "larger data.batch_size or data.image_size"
            ) from error
        self._count(self.train_iou, prediction.comparable(batch.query.shape[2:]), batch)
        self.log("train/loss", loss, prog_bar=True)
        for name, part in parts.items():
            self.log(f"train/loss_{name}", part)
        pooled = scores(self.train_iou.counts())
        self.log("train/miou", pooled.miou, prog_bar=True)
        self.log("train/fb_iou", pooled.fb_iou)
        return loss

    def validation_step(self, batch: Episode, batch_idx: int) -> None:
        """Counts an episode's pixels."""
        self._count(self.val_iou, self._one_by_one(batch, self._plainly), batch)

    def test_step(self, batch: Episode, batch_idx: int) -> None:
        """Counts an episode's pixels."""
        self._count(self.test_iou, self._one_by_one(batch, self.predictor), batch)
        so_far = scores(self.test_iou.counts()).miou
        self.log("test/miou_so_far", so_far, prog_bar=True, logger=False, on_step=True, on_epoch=False)

    def predict_step(self, batch: Episode, batch_idx: int) -> Predicted:
        """What tests make of an episode."""
        logits = self._one_by_one(batch, self.predictor)
        labels = predict_labels(logits, batch)
        sizes = batch.query_size.tolist()
        presences = [presence(margins(logits[i : i + 1], (h, w))[0]) for i, (h, w) in enumerate(sizes)]
        return Predicted(labels, episode_counts(labels, batch.query_mask, batch.class_id, batch.number), presences)

    def _one_by_one(self, batch: Episode, predictor: Predictor) -> Tensor:
        """Logits an episode at a time: neither the batch size nor the number of processes can then change a rounding."""
        episodes = (Episode(*(part[i : i + 1] for part in batch)) for i in range(len(batch.query)))
        return torch.cat([predictor(episode) for episode in episodes])

    def on_train_epoch_end(self) -> None:
        """Logs the IoU of every class over the epoch so far."""
        self._log_scores("train", self.train_iou.compute())

    def on_train_epoch_start(self) -> None:
        """The running mIoU is an epoch's."""
        self.train_iou.reset()

    def on_validation_epoch_end(self) -> None:
        """Logs the scores of all validation episodes."""
        self._log_scores("val", self.val_iou.compute())
        self.val_iou.reset()

    def on_test_start(self) -> None:
        """Each test counts anew."""
        self.test_iou.reset()

    def on_test_epoch_end(self) -> None:
        """Gather the counts of all processes; they stay until the next test."""
        with self.test_iou.sync_context():
            counts = self.test_iou.counts().cpu()
        self.test_counts = counts[counts[:, 0].argsort(stable=True)]
        self._log_scores("test", scores(counts))

    def _log_scores(self, stage: str, pooled: Scores) -> None:
        names = self.trainer.datamodule.class_names  # type: ignore[attr-defined]  # Lightning sets it untyped
        self.log(f"{stage}/miou", pooled.miou, prog_bar=True, sync_dist=True)
        self.log(f"{stage}/fb_iou", pooled.fb_iou, sync_dist=True)
        self.log_dict({f"{stage}/iou/{names[c]}": iou for c, iou in pooled.class_iou.items()}, sync_dist=True)

    def _count(self, metric: EpisodeIoU, logits: Tensor, batch: Episode) -> None:
        labels = predict_labels(logits.detach(), batch)
        metric.update(labels, batch.query_mask, batch.class_id, batch.number)

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's many forms
        """Optimizer over the trainable parameters, schedule per step."""
        trainable = grouped(self.method.named_parameters(), self._groups)
        if self._optimizer is None or not trainable:
            return None
        optimizer = self._optimizer(trainable, **({} if self.lr is None else {"lr": self.lr}))
        scale_rates(optimizer)
        if self._schedule is None:
            return optimizer
        an_epoch = steps_per_epoch(self.trainer, self._batches_per_epoch)
        schedule = self._schedule(optimizer, total_steps=self.planned_steps, steps_per_epoch=an_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @property
    def planned_steps(self) -> int:
        """How many optimizer steps the trainer's limits ask for; something may stop it earlier."""
        return planned_steps(self.trainer, self._batches_per_epoch)

    @property
    def _batches_per_epoch(self) -> int:
        # Lightning's own estimate sets the loaders up too early: they would not go on where a checkpoint stopped
        return len(self.trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]  # Lightning sets it untyped
