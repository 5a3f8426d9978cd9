"""Two training-free baselines: prototypes of object and background, and the contrast of mean-subtracted cosines."""

import torch
from torch import nn
from torch.nn.functional import cosine_similarity, interpolate

from mshnet_pl.backbones.base import AbstractBackbone, Features
from mshnet_pl.episode import Prediction
from mshnet_pl.models.base import AbstractMethod, Masks, SupportCode, SupportFeatures
from mshnet_pl.models.layers import resize
from mshnet_pl.similarity.contrast import ContrastSimilarity
from mshnet_pl.similarity.masks import object_masks

_DEEPEST = 2
_STEEPNESS = 20.0  # of the logits: changes probabilities, not labels


class PrototypeBaseline(AbstractMethod):
    """Labels each query pixel by the closer, in cosine, of a foreground and a background prototype.

    Prototypes are means over all shots' pixels of the last block's last map (after its ReLU), weighted by the support masks
    and by their complements. An empty mask gives a zero prototype, whose cosine is 0. Measured, fold 0 of a
    small part of PASCAL-5i, 1-shot (experiments/field): 32.1.

    Args:
        backbone: frozen.
    """

    def __init__(self, backbone: AbstractBackbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.relu = nn.ReLU()

    def encode(self, support: SupportFeatures, support_mask: Masks) -> SupportCode:
        """(B, 2, d) prototypes of background and foreground."""
        pixels = self.relu(support[-1][:, :, -1])  # (B, K, d, h, w)
        mask = interpolate(support_mask, pixels.shape[3:], mode="bilinear", align_corners=True)
        weights = torch.stack([1 - mask, mask], dim=2)[:, :, :, None].to(pixels.dtype)  # (B, K, 2, 1, h, w)
        area = weights.sum((1, 4, 5)).clamp(min=1e-6)  # (B, 2, 1)
        return {"prototypes": ((pixels[:, :, None] * weights).sum((1, 4, 5)) / area,)}

    def decode(self, query: Features, code: SupportCode) -> Prediction:
        """Cosines (B, 2, h, w) to both prototypes on block 4's grid."""
        (prototypes,) = code["prototypes"]
        return Prediction(cosine_similarity(self.relu(query[-1][:, -1])[:, None], prototypes[..., None, None], dim=2))


class ContrastBaseline(AbstractMethod):
    """Calls a query pixel foreground where it is more like the object than like what surrounds it in the supports.

    This project's own. Measured, mean over the folds of a small part of PASCAL-5i, 1-shot / 5-shot
    (experiments/pascal5i_mini): 42.4 / 49.9.

    Args:
        backbone: frozen.
        min_contrast: mean contrast from which on a pixel is foreground; chosen on held-out base classes of folds 0 and 3.
    """

    def __init__(self, backbone: AbstractBackbone, min_contrast: int | float = 0.02) -> None:
        super().__init__()
        self.backbone, self._min_contrast = backbone, min_contrast
        self._contrast = ContrastSimilarity(backbone.blocks[-1].channels, centred=True)

    def encode(self, support: SupportFeatures, support_mask: Masks) -> SupportCode:
        """What the contrast needs of each of the deepest blocks, finest first."""
        objects = object_masks(support_mask, [(f.shape[4], f.shape[5]) for f in support])
        pairs = [*zip(support, objects, strict=True)][-_DEEPEST:]
        return {f"block{i}": self._contrast.encode(features, mask) for i, (features, mask) in enumerate(pairs)}

    def decode(self, query: Features, code: SupportCode) -> Prediction:
        """Logits (B, 2, h, w) on the finest grid of the deepest blocks."""
        means = [
            self._contrast.compare(features, code[f"block{i}"]).mean((1, 2))[:, None]  # (B, 1, h_b, w_b)
            for i, features in enumerate(query[-_DEEPEST:])
        ]
        finest = means[0].shape[2:]
        margin = _STEEPNESS * (torch.stack([resize(mean, finest) for mean in means]).mean(0) - self._min_contrast)
        return Prediction(torch.cat([-margin, margin], dim=1) / 2)
