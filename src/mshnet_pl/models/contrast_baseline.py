"""A training-free baseline: the contrast of centred cosines, averaged over layers, shots and the two deepest blocks."""

import torch
from jaxtyping import Float
from torch import Tensor

from mshnet_pl.backbones.base import AbstractBackbone, Features
from mshnet_pl.episode import Prediction
from mshnet_pl.models.algebra import resize
from mshnet_pl.models.base import AbstractMethod, SupportCode
from mshnet_pl.similarity.contrast import ContrastSimilarity
from mshnet_pl.similarity.masking import object_masks

_DEEPEST = 2
_STEEPNESS = 20.0  # of the logits: changes probabilities, not labels


class ContrastBaseline(AbstractMethod):
    """Calls a query pixel foreground where it is more like the object than like what surrounds it in the supports.

    This project's own. Measured, mean over the folds of a small part of PASCAL-5i, 1-shot / 5-shot
    (experiments/pascal5i_mini): 42.4 / 49.9.

    Args:
        backbone: frozen.
        least: mean contrast from which on a pixel is foreground; chosen on held-out base classes of folds 0 and 3.
    """

    def __init__(self, backbone: AbstractBackbone, least: int | float = 0.02) -> None:
        super().__init__()
        self.backbone, self._least = backbone, least
        self._contrast = ContrastSimilarity(backbone.blocks[-1].channels, centred=True)

    def encode(
        self,
        support: tuple[Float[Tensor, "batch shots _ _ _ _"], ...],
        support_mask: Float[Tensor, "batch shots height width"],
    ) -> SupportCode:
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
        margin = _STEEPNESS * (torch.stack([resize(mean, finest) for mean in means]).mean(0) - self._least)
        return Prediction(torch.cat([-margin, margin], dim=1) / 2)
