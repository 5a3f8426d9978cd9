"""PANet: few-shot segmentation with prototype alignment (Wang et al., ICCV 2019)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, interpolate, one_hot

from mshnet_pl.backbones.base import AbstractBackbone, Features
from mshnet_pl.episode import Prediction
from mshnet_pl.models.base import AbstractMethod, Masks, SupportCode, SupportFeatures
from mshnet_pl.models.prototypes import pooled

_SCALE = 20.0


class PANet(AbstractMethod):
    """Scaled cosines of the query's pixels with a prototype of background and one of foreground, both learned end to end.

    A prototype is the mean over the mask of the features, which are upsampled to the mask's size; several shots' are
    averaged. In training, prototypes of the query's predicted regions segment the supports in turn (alignment). Nothing but
    the backbone has parameters: with a trainable one, VGG-16, 14,714,688 are learned (published: 14.7 M), with
    a frozen backbone nothing is. Published with VGG-16's conv5_3 at stride 8 (``backbone.dilated``); corners are not aligned
    where maps are resized.

    The paper's mIoU, 1-shot / 5-shot, VGG-16: PASCAL-5i 48.1 / 55.7.

    Args:
        backbone: trainable, as published, or frozen.
        block: 2, 3 or 4: whose last map is compared.
        alignment: weight of the alignment loss.

    Raises:
        ValueError: no such block, or a negative weight.
    """

    def __init__(self, backbone: AbstractBackbone, block: int = 4, alignment: float = 1.0) -> None:
        super().__init__()
        if not 2 <= block < 2 + len(backbone.blocks):
            raise ValueError(f"block={block}: give 2 to {1 + len(backbone.blocks)}, 4 for the coarsest map")
        if alignment < 0:
            raise ValueError(f"alignment={alignment}: give a weight of at least 0")
        self.backbone = backbone
        self.block, self.alignment = block, alignment

    def encode(self, support: SupportFeatures, support_mask: Masks) -> SupportCode:
        """(B, 2, d) prototypes of background and foreground; in training also what they came from."""
        features = support[self.block - 2][:, :, -1]  # (B, K, d, h, w)
        masks = torch.stack([1 - support_mask, support_mask], dim=2)  # (B, K, 2, H, W)
        code = {"prototypes": (pooled(features.flatten(0, 1), masks.flatten(0, 1)).unflatten(0, masks.shape[:2]).mean(1),)}
        return {**code, "support": (features, support_mask)} if self.training else code

    def decode(self, query: Features, code: SupportCode) -> Prediction:
        """Cosines times 20 (B, 2, h, w) on the block's grid; in training with the alignment loss."""
        features = query[self.block - 2][:, -1]
        logits = scaled_cosines(features, code["prototypes"][0])
        if not self.training or not self.alignment:
            return Prediction(logits, aligned=False)
        aligning = self.alignment, alignment_loss(features, logits, *code["support"])
        return Prediction(logits, losses={"alignment": aligning}, aligned=False)


def scaled_cosines(
    features: Float[Tensor, "batch channels h w"], prototypes: Float[Tensor, "_ 2 channels"]
) -> Float[Tensor, "batch 2 h w"]:
    """20 times the cosine of every pixel with both prototypes."""
    return _SCALE * cosine_similarity(features[:, None], prototypes[..., None, None], dim=2)


def alignment_loss(
    query: Float[Tensor, "batch channels h w"],
    logits: Float[Tensor, "batch 2 h w"],
    support: Float[Tensor, "batch shots channels h w"],
    support_mask: Float[Tensor, "batch shots height width"],
) -> Float[Tensor, ""]:
    """Cross-entropy of the supports as segmented by prototypes of the query's predicted background and foreground.

    A mean over the batch; an episode without a pixel of predicted foreground adds nothing.
    """
    regions = one_hot(logits.argmax(1), 2).movedim(3, 1).to(query.dtype)  # (B, 2, h, w)
    prototypes = pooled(query, regions)
    shots = support.shape[1]
    of_shots = scaled_cosines(support.flatten(0, 1), prototypes.repeat_interleave(shots, dim=0))
    predicted = interpolate(of_shots, support_mask.shape[2:], mode="bilinear", align_corners=False)
    predicted = predicted.to(torch.promote_types(predicted.dtype, torch.float32))
    losses = cross_entropy(predicted, support_mask.flatten(0, 1).long(), reduction="none").mean((1, 2))
    counted = regions[:, 1].flatten(1).any(1).repeat_interleave(shots)
    return (losses * counted).mean()
