"""PPNet: Part-aware Prototype Network for Few-shot Semantic Segmentation (Liu et al., ECCV 2020, arXiv 2007.06309)."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, one_hot

from mshnet_pl.backbones.base import AbstractBackbone, Features
from mshnet_pl.episode import Prediction, Supervised
from mshnet_pl.models.base import AbstractMethod, QueryImages, SupportCode, SupportFeatures, SupportImages
from mshnet_pl.models.layers import resize
from mshnet_pl.models.ppnet.graph import LatentGraph, superpixel_means
from mshnet_pl.models.ppnet.parts import PARTS, cluster_means, region
from mshnet_pl.models.prototypes import pooled
from mshnet_pl.models.randomness import generators
from mshnet_pl.options import UNKNOWN

_SCALE = 20.0
_RATES = (6, 12, 18, 24)


class PPNet(AbstractMethod):
    """Each query pixel's largest cosine to five parts of the object and to five of the background, times 20.

    Parts are k-means clusters of the last block's features in the supports' masks (before its last ReLU), plus a share of
    the region's mean. As in PANet, in training the query's predicted regions segment the supports in turn (alignment), and
    a branch that tells the base classes apart is learned beside. The clusters' starts are random, drawn from the supports'
    masks in tests. This is the published network without unlabelled images (+PAP+SEM), of which episodes here have none;
    who has some calls ``encode`` with them and a ``graph`` (+UD). Published with a ResNet-50 of stride 8 whose blocks 3 and
    4 learn on statistics of the batch (``backbone.dilation=torchvision blocks=[4] learns_from=3``): 23,242,816 trainable
    parameters with 15 classes.

    The paper's mIoU, ResNet-50, 1-shot / 5-shot: PASCAL-5i 51.5 / 62.0, with unlabelled images 52.8 / 63.0; COCO-20i
    29.0 / 38.5.

    Args:
        backbone: trainable, as published, or frozen; its last block is used.
        classes: of the data set, for the branch that tells them apart; published: the 15 that are trained.
        share: of a region's mean in its parts.
        iterations: of k-means.
        alignment: weight of the alignment loss.
        semantic: weight of the loss of the classes.
        graph: refines parts by unlabelled images.

    Raises:
        ValueError: a number of classes or of iterations below 1, or a negative weight.
    """

    exportable = False

    def __init__(
        self,
        backbone: AbstractBackbone,
        classes: int = 20,
        share: float = 0.5,
        iterations: int = 10,
        alignment: float = 1.0,
        semantic: float = 0.1,
        graph: LatentGraph | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (("classes", classes, 1), ("iterations", iterations, 1)):
            if value < least:
                raise ValueError(f"{name}={value}: give a number of at least {least}")
        if min(share, alignment, semantic) < 0:
            raise ValueError(f"share={share}, alignment={alignment}, semantic={semantic}: give weights of at least 0")
        self.backbone, self.graph = backbone, graph
        self.share, self.iterations, self.alignment, self.semantic = share, iterations, alignment, semantic
        channels = backbone.blocks[-1].channels
        self.classifiers = nn.ModuleList(
            [nn.Conv2d(channels, classes + 1, 3, padding=rate, dilation=rate) for rate in _RATES]
        )
        for layer in self.classifiers:
            nn.init.normal_(layer.weight, std=0.01)  # type: ignore[arg-type]  # a ModuleList does not tell
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def starts(self, pixels: int, generator: torch.Generator) -> Int64[Tensor, "parts"]:
        """Which pixels start the clusters; several may start at one."""
        return torch.randint(pixels, (PARTS,), generator=generator)

    def features(self, query: QueryImages, support: SupportImages) -> tuple[Features, SupportFeatures]:
        """As the base class; statistics are those of supports and queries together."""
        if not self.backbone.training:
            return super().features(query, support)
        features = self.backbone(torch.cat([support.flatten(0, 1), query]))
        of_query, of_images = (tuple(f[part] for f in features) for part in (slice(-len(query), None), slice(-len(query))))
        return of_query, tuple(f.unflatten(0, support.shape[:2]) for f in of_images)

    def encode(
        self,
        support: tuple[Float[Tensor, "batch shots _ _ _ _"], ...],
        support_mask: Float[Tensor, "batch shots height width"],
        unlabelled: Sequence[Float[Tensor, "_ channels"]] = (),
    ) -> SupportCode:
        """(B, 2, 5, d) parts of background and foreground; in training also what they came from.

        Args:
            support: features.
            support_mask: 1 on the object.
            unlabelled: superpixels of images that all episodes of the batch share, for the graph: ``superpixels``.
        """
        x = support[-1][:, :, -1]  # (B, K, d, h, w)
        foreground = (support_mask == 1).to(x.dtype)
        masks = torch.stack([1 - foreground, foreground], dim=2)  # (B, K, 2, H, W)
        means = pooled(x.flatten(0, 1), masks.flatten(0, 1), aligned=True).unflatten(0, masks.shape[:2]).mean(1)
        parts = []
        for of_episode, sides, generator in zip(
            x, masks.transpose(1, 2), generators(support_mask, self.training), strict=True
        ):
            by_side = [
                torch.cat([region(f, m, factor, m.shape) for f, m in zip(of_episode, side, strict=True)])
                for side, factor in zip(sides.flip(0), (2, 1), strict=True)  # the foreground first
            ]
            parts.append(torch.stack([self._means(pixels, generator) for pixels in by_side]).flip(0))
        whole = torch.stack(parts) + self.share * means[:, :, None]  # (B, 2, 5, d)
        if self.graph is not None and unlabelled:
            sides = zip(whole.flatten(0, 1), means.flatten(0, 1), strict=True)
            whole = torch.stack([self.graph(*side, unlabelled) for side in sides]).unflatten(0, whole.shape[:2])
        code = {"parts": (whole,)}
        return {**code, "support": (x, support_mask)} if self.training else code

    @torch.no_grad()
    def superpixels(
        self, images: Float[Tensor, "n 3 height width"], ids: Shaped[Tensor, "n height width"]
    ) -> list[Float[Tensor, "_ channels"]]:
        """Mean features of the superpixels of unlabelled images, which ``ids`` numbers; one pass of the backbone."""
        features = self.backbone(images)[-1][:, -1]
        return [superpixel_means(of_image, numbers) for of_image, numbers in zip(features, ids, strict=True)]

    def _means(self, pixels: Float[Tensor, "n d"], generator: torch.Generator) -> Float[Tensor, "parts d"]:
        return cluster_means(pixels, self.starts(len(pixels), generator).to(pixels.device), self.iterations)

    def decode(self, query: Features, code: SupportCode) -> Prediction:
        """Cosines times 20 (B, 2, h, w) on the last block's grid; in training with the alignment loss and the classes."""
        x = query[-1][:, -1]
        logits = _scores(x, code["parts"][0])
        if not self.training:
            return Prediction(logits)
        support, mask = code["support"]
        losses = {"alignment": (self.alignment, self._alignment_loss(x, logits, support, mask))} if self.alignment else {}
        supervise = partial(self._supervise, support, mask, x) if self.semantic else None
        return Prediction(logits, losses=losses, supervise=supervise)

    def _alignment_loss(self, query: Tensor, logits: Tensor, support: Tensor, mask: Tensor) -> Float[Tensor, ""]:
        """Cross-entropy of the supports as segmented by parts of the query's predicted background and foreground.

        A mean over the batch; an episode without a pixel of predicted foreground adds nothing.
        """
        regions = one_hot(logits.detach().argmax(1), 2).movedim(3, 1).to(query.dtype)  # (B, 2, h, w)
        means = pooled(query, regions, aligned=True)
        losses = [query.sum() * 0]
        for i, generator in enumerate(generators(mask, training=True)):
            if not regions[i, 1].any():
                continue
            pixels = [region(query[i], side, 2, mask.shape[2:]) for side in regions[i]]
            parts = torch.stack([self._means(of_side, generator) for of_side in pixels]) + self.share * means[i, :, None]
            predicted = resize(_scores(support[i], parts[None]), mask.shape[2:])
            predicted = predicted.to(torch.promote_types(predicted.dtype, torch.float32))
            loss = cross_entropy(predicted, mask[i].long(), ignore_index=UNKNOWN)
            losses.append(loss if self.graph is None else loss / len(mask[i]))  # published: the shots' mean, by K again
        return torch.stack(losses).sum() / len(query)

    def _supervise(
        self, support: Tensor, support_mask: Tensor, query: Tensor, mask: Tensor, class_id: Tensor
    ) -> Mapping[str, Supervised]:
        images = torch.cat([support.transpose(0, 1).flatten(0, 1), query]).relu()
        logits = torch.stack([layer(images) for layer in self.classifiers]).sum(0)
        return {"semantic": Supervised(self.semantic, logits, self.class_labels(support_mask, mask, class_id))}

    def class_labels(
        self, support_mask: Float[Tensor, "batch shots h w"], mask: Tensor, class_id: Int64[Tensor, "batch"]
    ) -> Float[Tensor, "images h w"]:
        """Labels of every shot's images and of the queries: 0, an episode's class + 1 on its object, 255.

        Raises:
            ValueError: a class beyond ``classes``.
        """
        classes = self.classifiers[0].out_channels - 1  # type: ignore[operator]  # as above
        if int(class_id.max()) >= classes:
            raise ValueError(f"classes={classes}: the data set has more; give their number as model.classes")
        labels = torch.cat([support_mask.transpose(0, 1).flatten(0, 1), mask.to(support_mask.dtype)])
        numbers = (class_id.to(labels) + 1).repeat(len(labels) // len(class_id))[:, None, None]
        return torch.where(labels == 1, numbers, labels)


def _scores(
    x: Float[Tensor, "n channels h w"], parts: Float[Tensor, "_ sides parts channels"]
) -> Float[Tensor, "n sides h w"]:
    """20 times the largest cosine of every pixel with the parts of each side."""
    by_part: Sequence[Tensor] = [cosine_similarity(x[:, None], part[..., None, None], dim=2) for part in parts.unbind(2)]
    return _SCALE * torch.stack([*by_part]).amax(0)
