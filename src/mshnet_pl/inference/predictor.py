"""How queries are predicted: plainly, or averaged over mirrored and resized views and over shots, led by their colours.

Supports may be shown again from nearer.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypedDict

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from mshnet_pl.backbones.base import Features
from mshnet_pl.data.io.marks import OBJECT
from mshnet_pl.data.loading.cached_backbone import CachedBackbone
from mshnet_pl.episode import Episode
from mshnet_pl.errors import ConfigError
from mshnet_pl.inference.completion import complete
from mshnet_pl.inference.guided_filter import guided_logits
from mshnet_pl.inference.zoom import around, cut
from mshnet_pl.models.base import AbstractMethod, SupportCode
from mshnet_pl.models.layers import count_votes, resize_if_needed
from mshnet_pl.options import EVERY_FOLD, Fusion, zoom_problems

SupportCodes = tuple[tuple[SupportCode, ...], ...]
"""What is kept of supports: a code for every view and every group of shots that predicts together."""


class PredictionSettings(TypedDict, total=False):
    """How to predict, see ``Predictor``; None, as what is left out, for what the network's file says."""

    flip: bool | None
    scales: Sequence[float] | None
    fusion: str | None
    guided: float | None
    zooms: Sequence[float] | None


class View(NamedTuple):
    """Images at one scale, mirrored or not."""

    scale: float
    mirrored: bool

    def show(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h2 w2"]:
        """Resized bilinearly, then mirrored."""
        return self._mirror(resize_if_needed(images, self._size(images)))

    def show_masks(self, masks: Float[Tensor, "batch shots h w"]) -> Float[Tensor, "batch shots h2 w2"]:
        """Resized to the nearest pixel, then mirrored."""
        return self._mirror(interpolate(masks, self._size(masks), mode="nearest"))

    def undo(self, logits: Float[Tensor, "batch 2 h w"], size: Sequence[int]) -> Float[Tensor, "batch 2 height width"]:
        """Mirrored back, and resized to the query's size."""
        return resize_if_needed(self._mirror(logits), size)

    def _size(self, images: Tensor) -> tuple[int, int]:
        height, width = (round(self.scale * side) for side in images.shape[2:])
        return height, width

    def _mirror(self, x: Tensor) -> Tensor:
        return x.flip(-1) if self.mirrored else x


PLAIN = View(1.0, mirrored=False)
"""Images as they are."""


class Predictor:
    """Calls a method on views of supports and query and merges what it predicts.

    A view's logits are mirrored back and resized to the query's size S x S, where all views are averaged. With ``mean`` or
    ``vote`` each shot predicts alone, averaged over views; then the shots' logits are averaged, or each votes at every pixel
    of the S x S query: votes for the foreground are summed and divided by their maximum over the query (at least 1), and
    the foreground is where that exceeds 0.5 (Min et al., ICCV 2021).

    Last, with ``guided``, the foreground's probability is smoothed along the query's colours (``guided_filter``): the
    network predicts on a coarse grid, whose outlines are not the object's.

    With ``zooms`` every support is given once more for each of them, cut out around its object (``inference.zoom``), as if
    it were a further shot.

    Args:
        method: segments queries.
        flip: also predict the mirrored images.
        scales: factors of the image size.
        fusion: how the supports become one prediction.
        guided: radius of the guided filter's windows as a share of the query's side; 0 for no filter.
        zooms: how much larger than the object's box the parts are that supports are shown again by; none by default.
        backbone: gives features, those that are kept without looking at the image; by default the method's own, which
            computes all.
        batch_size: how many supports pass the backbone at a time, none of whose features are kept then; all by default.
        fold: of PASCAL-5i, where its novel classes are tested: the network that makes masks of marks was then trained on
            the fold's base classes alone (``completion``).

    Raises:
        ConfigError: no scale, or one that is not positive; no such fusion; a radius that is not from 0 to 0.5; a zoom
            that is not from 1 to 10.
    """

    def __init__(
        self,
        method: AbstractMethod,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        fusion: str = Fusion.network,
        guided: float = 0.0,
        zooms: Sequence[float] = (),
        backbone: CachedBackbone | None = None,
        batch_size: int | None = None,
        fold: int | str = EVERY_FOLD,
    ) -> None:
        flip, guided, scales, zooms = bool(flip), float(guided), [*map(float, scales)], [*map(float, zooms)]
        if not scales or not all(0 < scale < float("inf") for scale in scales):
            raise ConfigError(f"scales={scales}: give one or more positive numbers")
        if fusion not in [*Fusion]:
            raise ConfigError(f"fusion={fusion}: give {', '.join(Fusion)}")
        if not 0 <= guided <= 0.5:
            raise ConfigError(f"guided={guided}: give 0 for no filter, or a share of the side up to 0.5")
        for problem in zoom_problems("zooms", zooms):
            raise ConfigError(problem)
        self._method, self._backbone = method, backbone or CachedBackbone(method.backbone)
        self._views = [View(scale, mirrored) for scale in scales for mirrored in ((False, True) if flip else (False,))]
        self._fusion, self._guided, self._batch_size, self._zooms = Fusion(fusion), guided, batch_size, zooms
        self._fold = fold
        self.settings: dict[str, Any] = {
            "flip": flip, "scales": scales, "fusion": self._fusion.value, "guided": guided, "zooms": zooms
        }  # fmt: skip
        """``PredictionSettings`` as plain values."""

    @property
    def sees_plainly(self) -> bool:
        """Whether all that the network sees are images as they are, for which kept features serve."""
        return self._views == [PLAIN]

    def __call__(self, episode: Episode) -> Float[Tensor, "batch 2 h w"]:
        """Logits for an episode's queries; see ``decode``."""
        codes = self.encode(episode.support, episode.support_mask, episode.support_id)
        (logits,) = self.decode(episode.query, [codes], episode.query_id)
        return logits

    def encode(
        self,
        support: Float[Tensor, "batch shots 3 height width"],
        support_mask: Float[Tensor, "batch shots height width"],
        support_id: Int64[Tensor, "batch shots"] | None = None,
    ) -> SupportCodes:
        """Look at supports, once for any number of queries.

        Args:
            support: normalised images.
            support_mask: 1 on the class, 0 elsewhere; or what marks tell, of which a mask is made (``completion``).
            support_id: of the images, where some of their features may be kept.
        """
        shots, ids = support.shape[:2], None if support_id is None else support_id.flatten()
        if bool((support_mask > OBJECT).any()):
            support_mask = self.completed(support.flatten(0, 1), support_mask.byte(), ids)
        alone = self._fusion is not Fusion.network
        groups = [slice(i, None, shots[1]) for i in range(shots[1])] if alone else [slice(None)]
        codes = []
        for view in self._views:
            found, shown = zip(*self._looks(support.flatten(0, 1), support_mask.flatten(0, 1), view, ids), strict=True)
            features = [_as_shots(block, shots) for block in zip(*found, strict=True)]
            masks = view.show_masks(_as_shots(shown, shots))
            of_view = [self._method.encode(tuple(f[:, group] for f in features), masks[:, group]) for group in groups]
            codes.append(tuple(of_view))
        return tuple(codes)

    def _looks(
        self, images: Float[Tensor, "n 3 h w"], masks: Float[Tensor, "n h w"], view: View, ids: Int64[Tensor, "n"] | None
    ) -> list[tuple[Features, Float[Tensor, "n h w"]]]:
        """Features and masks of the supports as they are and by every zoom; what cannot be zoomed is as it is."""
        whole = self._features_of_supports(images, view, ids)
        looks = [(whole, masks)]
        for zoom in self._zooms:
            parts = {place: part for place, mask in enumerate(masks) if (part := around(mask, zoom)) is not None}
            if not parts:
                looks.append(looks[0])
                continue
            places = torch.tensor([*parts], device=images.device)
            numbers = None if ids is None else [part.number(int(ids[place])) for place, part in parts.items()]
            nearer = self._features_of_supports(cut(images[places], [*parts.values()]), view, numbers=numbers)
            nearer_masks = cut(masks[places, None], [*parts.values()], smooth=False)[:, 0]
            features = tuple(f.index_copy(0, places, n.to(f.dtype)) for f, n in zip(whole, nearer, strict=True))
            looks.append((features, masks.index_copy(0, places, nearer_masks)))
        return looks

    def decode(
        self,
        query: Float[Tensor, "batch 3 height width"],
        classes: Sequence[SupportCodes],
        query_id: Int64[Tensor, "batch"] | None = None,
    ) -> list[Float[Tensor, "batch 2 h w"]]:
        """Logits of each class, at the method's resolution where the prediction is plain, otherwise at the query's.

        Args:
            query: normalised images.
            classes: what ``encode`` made of each class's supports, of batch 1 or of the queries' batch.
            query_id: of the images, where some of their features may be kept.

        Returns:
            float32; after a vote without a filter, 0.5 and the foreground's share of the votes.

        Raises:
            ConfigError: the network gives numbers that are not finite, which would be masks of nothing.
        """
        size, plain = query.shape[2:], self.sees_plainly and self._fusion is Fusion.network
        of_views: list[list[Tensor]] = [[] for _ in classes]
        for place, view in enumerate(self._views):
            features = self._features(query, view, query_id)
            for codes, found in zip(classes, of_views, strict=True):
                logits = [self._method.decode(features, code).comparable(size).float() for code in codes[place]]
                found.append(torch.stack(logits if plain else [view.undo(one, size) for one in logits]))
        if not all(torch.stack([logits.isfinite().all() for found in of_views for logits in found]).tolist()):
            raise ConfigError("the network predicts NaN or infinity: take a checkpoint whose training worked")
        return [self._merge(torch.stack(found).mean(0), query) for found in of_views]

    def features(self, images: Float[Tensor, "n 3 height width"]) -> Features:
        """What the backbone gives for the first view, which the first codes of ``encode`` are of."""
        return self._features(images, self._views[0])

    def _features(
        self, images: Tensor, view: View, ids: Tensor | None = None, numbers: Sequence[int] | None = None
    ) -> Features:
        if view != PLAIN:
            return self._backbone(view.show(images))
        return self._backbone(images, ids) if numbers is None else self._backbone.of_parts(images, numbers)

    def completed(
        self,
        images: Float[Tensor, "n 3 h w"],
        told: UInt8[Tensor, "batch shots h w"],
        ids: Int64[Tensor, "n"] | None = None,
    ) -> Float[Tensor, "batch shots h w"]:
        """Masks of what marks tell, see ``inference.completion``; the n images are those of all shots."""
        features = self._features_of_supports(images, PLAIN, ids)
        shots = told.shape[1]
        episodes = zip(
            zip(*(f.split(shots) for f in features), strict=True), images.split(shots), told.to(images.device), strict=True
        )
        return torch.stack([complete(*episode, self._fold) for episode in episodes]).float()

    def _features_of_supports(
        self, images: Tensor, view: View, ids: Tensor | None = None, numbers: Sequence[int] | None = None
    ) -> Features:
        if self._batch_size is None:
            return self._features(images, view, ids, numbers)
        blocks = zip(*(self._features(part, view) for part in images.split(self._batch_size)), strict=True)
        return tuple(torch.cat(block) for block in blocks)

    def _merge(self, shots: Float[Tensor, "groups batch 2 h w"], query: Tensor) -> Tensor:
        logits = _vote(shots) if self._fusion is Fusion.vote else shots.mean(0)
        return guided_logits(logits, query, self._guided) if self._guided else logits


def numbers(name: str, given: object) -> list[float]:
    """A list of numbers, of a setting that takes several.

    Raises:
        ConfigError: it is something else.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigError(f"{name}={given}: give a list of numbers, such as [1.2, 2]")
    return [*given]


def _as_shots(looks: Sequence[Tensor], shots: torch.Size) -> Float[Tensor, "batch all_shots *_"]:
    """Every look at the n supports, (n, ...), as further shots of the batch."""
    first, *further = (look.unflatten(0, shots) for look in looks)
    return torch.cat([first, *further], dim=1) if further else first


def _vote(logits: Float[Tensor, "shots batch 2 height width"]) -> Float[Tensor, "batch 2 height width"]:
    """0.5 for the background, and for the foreground its share of the most votes that a pixel of the query got.

    A share of exactly one half is not enough.
    """
    votes, max_votes = count_votes(logits.transpose(0, 1))
    share = votes / max_votes
    return torch.stack([torch.full_like(share, 0.5), share], dim=1)
