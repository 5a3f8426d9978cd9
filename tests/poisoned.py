"""A method that fails as real ones do: it takes the logarithm of the query's contrast, which is 0 on a blank image."""

from collections.abc import Collection

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mshnet_pl.backbones.base import AbstractBackbone, Features
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.episode import Prediction
from mshnet_pl.models.base import AbstractMethod, SupportCode


class BlankImages(Synthetic):
    """Some of the images show nothing but one colour."""

    blank: tuple[str, ...] = ()

    def __init__(self, blank: Collection[str] = (), **settings: int) -> None:
        super().__init__(**settings)
        self.blank = tuple(blank)

    def image(self, name: str) -> Image.Image:
        image = super().image(name)
        return Image.fromarray(np.full_like(np.asarray(image), 90)) if name in self.blank else image


class LogContrast(AbstractMethod):
    """Convolution and BatchNorm on the first block, of features that were multiplied with the contrast's logarithm."""

    def __init__(self, backbone: AbstractBackbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.layers = nn.Sequential(nn.Conv2d(backbone.blocks[0].channels, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.head = nn.Conv2d(4, 2, 1)

    def encode(self, support: Features, support_mask: Tensor) -> SupportCode:
        return {"none": (support_mask.mean((1, 2, 3)),)}

    def decode(self, query: Features, code: SupportCode) -> Prediction:
        return Prediction(self.head(self.layers(query[0][:, -1])))

    def forward(self, query: Tensor, support: Tensor, support_mask: Tensor) -> Prediction:
        of_query, _ = self.features(query, support)
        contrast = query.std((2, 3)).mean(1)
        return self.decode(tuple(maps * torch.log(contrast)[:, None, None, None, None] for maps in of_query), {})
