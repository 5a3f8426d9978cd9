"""Computes the features that a run will ask for again and again, before it starts."""

import hashlib
import logging
from collections.abc import Callable, Collection

import pytorch_lightning as pl
import torch
from torch import Tensor

from mshnet_pl.backbones.base import AbstractBackbone
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.loading.feature_cache import AbstractFeatureCache, FeatureFile, FeatureMemory, FeatureShape
from mshnet_pl.errors import ConfigError
from mshnet_pl.training.module import EpisodicModule

log = logging.getLogger(__name__)


class FeatureKeeper:
    """Fills a cache of backbone features for the images that come, and tells module and data of it.

    Args:
        trainer: whose device and precision count.
        module: whose backbone is frozen.
        datamodule: whose images they are.
        folder: keep features of training and test in a file of this folder; None to keep none in training.
        megabytes: budget of a cache in memory for tests without ``folder``; 0 for none.

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
        self._cache: AbstractFeatureCache | None = None
        learns = any(p.requires_grad for p in module.method.backbone.parameters())
        if learns and folder is not None:
            raise ConfigError(f"data.feature_cache={folder}: the backbone learns, so its features change; leave it null")
        plainly = module.refinement is None or not module.refinement.looks_again
        self._tests = not learns and plainly and (folder is not None or megabytes > 0)

    def before_training(self) -> None:
        """Compute and keep the features of all images that training and validation read."""
        if self._folder is not None:
            self._keep(self._datamodule.training_images())

    def before_test(self) -> None:
        """Compute and keep the features of the images of the test that comes next, as many as there is room for."""
        if self._tests:
            self._keep(self._datamodule.test_images())
        else:
            self._datamodule.use_features({})

    def _keep(self, names: Collection[str]) -> None:
        plugin, device = self._trainer.precision_plugin, self._trainer.strategy.root_device
        backbone = self._module.method.backbone.to(device)

        def compute(images: Tensor) -> tuple[Tensor, ...]:
            with torch.no_grad(), plugin.forward_context():
                features: tuple[Tensor, ...] = backbone(images.to(device))
            return features

        if self._cache is None:
            self._cache = self._make(compute, backbone)
        if isinstance(self._cache, FeatureFile):
            with self._cache.lock:
                self._fill(self._cache, names, compute)
        else:
            self._fill(self._cache, names, compute)
        self._datamodule.use_features({name: self._cache.places[name] for name in names if name in self._cache.places})
        self._module.kept_features = self._cache

    def _fill(
        self, cache: AbstractFeatureCache, names: Collection[str], compute: Callable[[Tensor], tuple[Tensor, ...]]
    ) -> None:
        absent = cache.absent(names)
        for name, image in zip(absent, self._datamodule.images(absent), strict=True):
            cache.put(name, compute(image))

    def _make(self, compute: Callable[[Tensor], tuple[Tensor, ...]], backbone: AbstractBackbone) -> AbstractFeatureCache:
        size = self._datamodule.image_size
        blocks = [FeatureShape(_as_stored(x), x.dtype) for x in compute(torch.zeros(1, 3, size, size))]
        if self._folder is None:
            return FeatureMemory(blocks, self._megabytes)
        identity = self._datamodule.identity()
        if identity is None:
            raise ConfigError(
                f"data.feature_cache={self._folder}: this data set does not tell when an image changes; leave it null"
            )
        kind = f"{type(backbone).__module__}.{type(backbone).__qualname__}"
        device = str(self._trainer.strategy.root_device.type)
        described: list[str | int] = [identity, size, kind, repr(backbone), _digest(backbone), device]
        described.append(str(self._trainer.precision))
        return FeatureFile(self._folder, described, self._datamodule.all_images(), blocks)


def _as_stored(x: Tensor) -> tuple[int, int, int, int]:
    _, layers, channels, height, width = x.shape
    return layers, height, width, channels


def _digest(backbone: AbstractBackbone) -> str:
    """SHA-256 of the weights."""
    digest = hashlib.sha256()
    for name, value in sorted(backbone.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
