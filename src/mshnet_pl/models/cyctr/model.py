"""CyCTR: Few-Shot Segmentation via Cycle-Consistent Transformer (Zhang et al., NeurIPS 2021, arXiv 2106.02320)."""

from collections.abc import Mapping
from functools import partial

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mshnet_pl.backbones.base import AbstractBackbone, Features
from mshnet_pl.episode import Prediction, Supervised
from mshnet_pl.models.base import AbstractMethod, Masks, SupportCode, SupportFeatures, three_blocks
from mshnet_pl.models.cyctr.sampling import Sampler, Tokens, on_grid
from mshnet_pl.models.cyctr.transformer import Transformer
from mshnet_pl.models.enrichment import conv_relu, to_logits, two_convs
from mshnet_pl.models.layers import middle_maps, resize
from mshnet_pl.models.prior import masked_features, prior_mask
from mshnet_pl.models.prototypes import masked_mean
from mshnet_pl.models.randomness import generators


class CyCTR(AbstractMethod):
    """Query pixels gather from support pixels that find back to their own kind.

    Blocks 2 and 3 are reduced to one width; the query is joined with the supports' mean object and PFENet's prior, each
    support with its own mean. A transformer then lets query pixels attend to each other and to a sample of support pixels;
    those that lead over the query to a pixel of the other kind are ignored. In training the decoded query segments the
    supports in turn. The sample is random, drawn from the supports' masks in tests. 7,325,620 trainable parameters
    (published: 7,456,692 with ``spare``). Published with a frozen ResNet of stride 8 (``backbone.deep_stem``,
    ``backbone.dilation=torchvision``) and the loss ``loss.criterion=dice``.

    The paper's mIoU, 1-shot / 5-shot: PASCAL-5i ResNet-50 64.2 / 65.6, ResNet-101 64.3 / 66.6; COCO-20i ResNet-50 40.3 /
    45.6.

    Args:
        backbone: of three blocks, finest first.
        width: channels, a multiple of 8.
        auxiliary: weight of the loss of the supports.
        mixed_masks: give drawn support tokens the masks that the published code gives them, which are other tokens'.
        spare: hold the two layers of the published code that nothing uses.

    Raises:
        ValueError: a backbone without exactly three blocks, a width that is no multiple of 8, or a negative weight.
    """

    exportable = False

    def __init__(
        self,
        backbone: AbstractBackbone,
        width: int = 256,
        auxiliary: float = 1.0,
        mixed_masks: bool = False,
        spare: bool = False,
    ) -> None:
        super().__init__()
        fine, coarse, _ = three_blocks(self, backbone)
        if width < 8 or width % 8:
            raise ValueError(f"width={width}: give a multiple of 8, 256 for the published network")
        if auxiliary < 0:
            raise ValueError(f"auxiliary={auxiliary}: give a weight of at least 0")
        self.backbone = backbone
        self.auxiliary, self.mixed_masks = auxiliary, mixed_masks
        middle = fine.channels + coarse.channels
        self.reduce_query, self.reduce_support = (
            nn.Sequential(conv_relu(middle, width, 1), nn.Dropout2d(0.5)) for _ in range(2)
        )
        self.join_query, self.join_support = conv_relu(2 * width + 1, width, 1), conv_relu(2 * width, width, 1)
        self.transformer = Transformer(width)
        self.reduce, self.refine, self.head = conv_relu(width, width, 1), two_convs(width), to_logits(width)
        self.project, self.join_back = conv_relu(width, width, 1), conv_relu(2 * width, width, 1)
        self.refine_back, self.head_back = two_convs(width), to_logits(width)
        self.spare = nn.ModuleList([conv_relu(width, width, 1) for _ in range(2 * spare)])
        self.to(memory_format=torch.channels_last)

    def encode(self, support: SupportFeatures, support_mask: Masks) -> SupportCode:
        """The mean object (B, width), block 4's object, and tokens; a pixel of 255 is left out. In training all there is."""
        shape = support_mask.shape[:2]
        objects = (support_mask == 1).to(support_mask.dtype)
        x = self.reduce_support(middle_maps(support[0].flatten(0, 1), support[1].flatten(0, 1)))
        means = masked_mean(x, objects.flatten(0, 1))
        joined = self.join_support(torch.cat([x, means[:, :, None, None].expand_as(x)], dim=1))  # (B K, width, h, w)
        values = joined.unflatten(0, shape).flatten(3).transpose(2, 3).flatten(1, 2)  # (B, K h w, width)
        tokens = Tokens(values, *on_grid(support_mask, x.shape[2:]))
        if not self.training:
            tokens = self.sampler(support_mask)(tokens, training=False)
        code = {
            "mean": (means.unflatten(0, shape).mean(1),),
            "deep": (masked_features(support[2][:, :, -1], objects),),
            "tokens": tuple(tokens),
        }
        return {**code, "support": (x.unflatten(0, shape), support_mask)} if self.training else code

    def sampler(self, support_mask: Tensor) -> Sampler:
        """Draws the tokens of these episodes."""
        return Sampler(support_mask.shape[1], generators(support_mask, self.training), self.mixed_masks)

    def decode(
        self, query: Features, code: SupportCode, padding: Bool[Tensor, "batch height width"] | None = None
    ) -> Prediction:
        """Logits (B, 2, h, w) on block 2's grid; in training the supports are segmented in turn.

        Args:
            query: features.
            code: of the supports.
            padding: pixels of the queries that are no image, if there are any.
        """
        (mean,), (deep,), tokens = code["mean"], code["deep"], Tokens(*code["tokens"])
        x = self.reduce_query(middle_maps(query[0], query[1]))
        grid = x.shape[2:]
        prior = resize(prior_mask(query[2][:, -1].relu(), deep), grid).to(x.dtype)
        joined = self.join_query(torch.cat([x, mean[:, :, None, None].expand_as(x), prior], dim=1))
        outside = x.new_zeros(len(x), *grid, dtype=torch.bool)
        if padding is not None:
            outside = interpolate(padding[:, None].to(x.dtype), grid, mode="nearest")[:, 0] > 0
        sampler = self.sampler(code["support"][1]) if self.training else None
        y = self.transformer(joined, outside, lambda: sampler(tokens, training=True) if sampler else tokens)
        y = self.reduce(y)
        y = y + self.refine(y)
        supervise = partial(self._back, x, y, *code["support"]) if self.training and self.auxiliary else None
        return Prediction(self.head(y), supervise=supervise)

    def _back(
        self, x: Tensor, y: Tensor, support: Tensor, support_mask: Tensor, mask: Tensor, _: Tensor
    ) -> Mapping[str, Supervised]:
        """The supports' logits by the query's true object."""
        means = masked_mean(self.project(y) + x, (mask == 1).to(x.dtype))
        flat = support.flatten(0, 1)
        guide = means.repeat_interleave(support.shape[1], dim=0)[:, :, None, None].expand_as(flat)
        a = self.join_back(torch.cat([flat, guide], dim=1))
        logits = self.head_back(a + self.refine_back(a))
        return {"support": Supervised(self.auxiliary, logits, support_mask.flatten(0, 1))}
