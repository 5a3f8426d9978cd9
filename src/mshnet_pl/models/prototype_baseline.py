"""A training-free baseline: masked average pooling (Zhang et al., SG-One, 2020) on the last feature map."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, interpolate

from mshnet_pl.backbones.base import AbstractBackbone
from mshnet_pl.episode import Prediction
from mshnet_pl.models.base import AbstractMethod


class PrototypeBaseline(AbstractMethod):
    """Labels each query pixel by the closer, in cosine, of a foreground and a background prototype.

    Prototypes are means over all shots' pixels of the last block's last map (after its ReLU), weighted by the support masks
    and by their complements. An empty mask gives a zero prototype, whose cosine is 0.

    Args:
        backbone: frozen.
    """

    def __init__(self, backbone: AbstractBackbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.relu = nn.ReLU()

    def forward(
        self,
        query: Float[Tensor, "batch 3 height width"],
        support: Float[Tensor, "batch shots 3 height width"],
        support_mask: Float[Tensor, "batch shots height width"],
    ) -> Prediction:
        """Cosines (B, 2, h, w) to both prototypes on block 4's grid."""
        batch, shots = support.shape[:2]
        last = self.relu(self.backbone(torch.cat([query, support.flatten(0, 1)]))[-1][:, -1])
        of_query, of_support = last.split([batch, batch * shots])
        mask = interpolate(support_mask.flatten(0, 1)[:, None], last.shape[2:], mode="bilinear", align_corners=True)
        pixels = of_support.unflatten(0, (batch, shots))
        weights = torch.stack([1 - mask, mask], dim=1).unflatten(0, (batch, shots)).to(last.dtype)  # (B, K, 2, 1, h, w)
        area = weights.sum((1, 4, 5)).clamp(min=1e-6)  # (B, 2, 1)
        prototypes = (pixels[:, :, None] * weights).sum((1, 4, 5)) / area  # (B, 2, d)
        return Prediction(cosine_similarity(of_query[:, None], prototypes[..., None, None], dim=2))
