"""Computes the features that a run will ask for again and again, before it starts."""

from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor

from mshnet_pl.backbones.base import Features
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.loading.feature_cache import FeatureCache, FeatureFile, FeatureMemory, FeatureShape
from mshnet_pl.errors import ConfigError
from mshnet_pl.training.module import EpisodicModule
from mshnet_pl.utils.hashing import weights_digest


class FeatureKeeper:
    """Fills a cache of backbone features for the images that come, which the data module then need not read.

    Args:
        trainer: whose device and precision count.
        module: whose backbone is frozen.
        datamodule: whose images they are.
        folder: keep features of training and test in a file of this folder; None to keep none in training.
        megabytes: budget of a cache in memory for tests, of parts of images alone where there is a ``folder``; 0 for none.

    Raises:
        ConfigError: a backbone that learns, or a data set whose images may change unnoticed.
    """

    def __init__(
        self,
        trainer: pl.Trainer,
        module: EpisodicModule,
        datamodule: EpisodeDataModule,
        folder: str | None = None,
        megabytes: int = 0,
    ) -> None:
        self._trainer, self._module, self._datamodule = trainer, module, datamodule
        self._folder, self._megabytes = folder, megabytes
        self._cache: FeatureCache | None = None
        self._parts: FeatureMemory | None = None
        backbone = module.method.backbone
        learns = backbone.batch_statistics or any(p.requires_grad for p in backbone.parameters())
        if learns and folder is not None:
            raise ConfigError(f"data.feature_cache={folder}: the backbone learns, so its features change; leave it null")
        self._tests = not learns and module.predictor.sees_plainly and (folder is not None or megabytes > 0)

    def before_training(self) -> None:
        """Compute and keep the features of all images that training and validation read."""
        self._keep(self._datamodule.training_images() if self._folder is not None else [])

    def before_test(self) -> None:
        """Compute and keep the features of the images of the test that comes next, as many as there is room for."""
        self._keep(self._datamodule.test_images() if self._tests else [])

    def _keep(self, ids: Sequence[int]) -> None:
        """Compute the features of these images, none for no cache."""
        if not ids:
            self._module.backbone.use(None)
            self._datamodule.leave_out([])
            return
        self._module.method.backbone.to(self._trainer.strategy.root_device)
        cache, datamodule = self._cache or self._make(), self._datamodule
        with cache.lock:
            absent = cache.absent(ids)
            for image_id, image in zip(absent, datamodule.images(absent), strict=True):
                cache.put(image_id, self._compute(image))
        datamodule.leave_out([i for i in ids if i in cache])
        self._cache = cache
        self._module.backbone.use(cache, lambda image_id: datamodule.image(image_id), self._parts)

    def _compute(self, images: Tensor) -> Features:
        with torch.no_grad(), self._trainer.precision_plugin.forward_context():
            features: Features = self._module.method.backbone(images.to(self._trainer.strategy.root_device))
        return features

    def _make(self) -> FeatureCache:
        size, backbone = self._datamodule.image_size, self._module.method.backbone
        blocks = [FeatureShape(_as_stored(x), x.dtype) for x in self._compute(torch.zeros(1, 3, size, size))]
        self._parts = FeatureMemory(blocks, self._megabytes)
        if self._folder is None:
            return self._parts
        identity = self._datamodule.identity()
        if identity is None:
            raise ConfigError(
                f"data.feature_cache={self._folder}: this data set does not tell when an image changes; leave it null"
            )
        kind = f"{type(backbone).__module__}.{type(backbone).__qualname__}"
        device = str(self._trainer.strategy.root_device.type)
        described: list[str | int] = [identity, size, kind, repr(backbone), weights_digest(backbone), device]
        described.append(str(self._trainer.precision))
        return FeatureFile(self._folder, described, self._datamodule.image_names, blocks)


def _as_stored(x: Tensor) -> tuple[int, int, int, int]:
    _, layers, channels, height, width = x.shape
    return layers, height, width, channels
