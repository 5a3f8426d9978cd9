"""What each idea for a training-free network gives on base classes of PASCAL-5i.

    python experiments/default_network.py ROOT

Classes 10 to 19, which are base classes of folds 0 and 1; EfficientNet-Lite0, 473 x 473. An idea makes a map of the query
from its features and the supports'; it gets the threshold that is best for it here: ideas are compared, not thresholds.
"""

import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from mshnet_pl.backbones import EfficientNetLite0
from mshnet_pl.data.io.transforms import resize_mask, to_input
from mshnet_pl.data.protocol.sampling import draw_seeded
from mshnet_pl.data.protocol.split_lists import by_class
from mshnet_pl.data.sources import Pascal5i
from mshnet_pl.inference.guided_filter import guided_filter
from mshnet_pl.models.layers import resize
from mshnet_pl.options import Subset
from mshnet_pl.report.formats import aligned

CLASSES, SEED, EPISODES = range(10, 20), 7, {1: 200, 5: 60}
SIZE, GRID, SCORED = 473, 30, slice(None, None, 4)  # maps are scored at one in four pixels, where an aligned map of 119 lies
SUBSETS = ("3", "4", "5", "34", "345", "2345")
THRESHOLD = 0.035  # of the map at temperature 0.05: a ratio of two


class Compared(NamedTuple):
    """A query and its supports, n pixels of all shots."""

    cosines: dict[str, Tensor]
    """(hw, n) with the supports, by blocks: mean of the maps' cosines."""
    centred: dict[str, Tensor]
    """The same of features less their own image's mean."""
    own: Tensor
    """(hw, hw) of the query with itself, blocks 3, 4 and 5."""
    shares: Tensor
    """(n,) share of the object in every support pixel."""
    shots: int
    image: Tensor
    """(1, 3, 119, 119), normalised."""


def ratio(kernels: Tensor, shares: Tensor, temperature: float = 0.05) -> Tensor:
    """The map of the densities' ratio."""
    inside, outside = ((kernels @ w / w.sum().clamp(min=1e-6)).clamp(min=1e-12).log() for w in (shares, 1 - shares))
    return temperature * (inside - outside)


def density(c: Compared, blocks: str = "345", temperature: float = 0.05) -> Tensor:
    """What was kept."""
    return ratio((c.cosines[blocks] / temperature).exp(), c.shares, temperature)


def contrast(cosines: Tensor, c: Compared) -> Tensor:
    """Mean positive cosine to the object less that to the rest."""
    inside, outside = (cosines.relu() @ w / w.sum().clamp(min=1e-6) for w in (c.shares, 1 - c.shares))
    return inside - outside


def by_shot(c: Compared) -> Tensor:
    """Every shot for itself, then the mean."""
    cosines, shares = (x.unflatten(-1, (c.shots, -1)) for x in (c.cosines["345"], c.shares))
    return torch.stack([ratio((cosines[:, k] / 0.05).exp(), shares[k]) for k in range(c.shots)]).mean(0)


def nearest(c: Compared) -> Tensor:
    """The nearest pixel of the object less the nearest of the rest."""
    inside = c.shares > min(0.5, float(c.shares.max()) / 2)
    return c.cosines["345"][:, inside].amax(1) - c.cosines["345"][:, ~inside].amax(1)


def mutual(c: Compared) -> Tensor:
    """Forward and backward: a match counts as far as each is the other's among all."""
    scaled = c.cosines["345"] / 0.05
    return ratio((scaled.softmax(1) * scaled.softmax(0)).sqrt(), c.shares)


def without_hubs(c: Compared) -> Tensor:
    """Support pixels that are like all of the query count less."""
    hubness = 0.05 * (c.cosines["345"] / 0.05).exp().mean(0).log()
    return ratio(((c.cosines["345"] - hubness / 2) / 0.05).exp(), c.shares)


def smoothed(c: Compared, temperature: float) -> Tensor:
    """A mean over the query's pixels that are alike."""
    return (c.own / temperature).softmax(1) @ density(c)


def self_supported(c: Compared) -> Tensor:
    """The mean with the ratio of densities from the query's own confident pixels."""
    first = density(c)
    probability = (60 * (first - THRESHOLD)).sigmoid()
    kernels, own = (c.own / 0.05).exp(), []
    for likely in (probability, 1 - probability):
        weight = likely * (likely > 0.7)
        if weight.sum() < 2:
            return first
        own.append((kernels @ weight / weight.sum()).log())
    return (first + 0.05 * (own[0] - own[1])) / 2


def filtered(c: Compared, steepness: float) -> Tensor:
    """The guided filter on probabilities."""
    fine = resize(density(c).reshape(1, 1, GRID, GRID), c.image.shape[2:])
    smooth = guided_filter(c.image, (steepness * (fine - THRESHOLD)).sigmoid(), round(0.09 * c.image.shape[3]))
    return smooth[0, 0].logit(eps=1e-3) / steepness


IDEAS: dict[str, Callable[[Compared], Tensor]] = {
    "contrast, blocks 3 and 4 (`contrast_baseline`)": lambda c: contrast(c.centred["34"], c),
    "contrast, blocks 3, 4, 5": lambda c: contrast(c.centred["345"], c),
    "contrast, blocks 3, 4, 5, not centred": lambda c: contrast(c.cosines["345"], c),
    "nearest pixel": nearest,
    "attention: share of the object among support pixels": lambda c: (c.cosines["345"] / 0.05).softmax(1) @ c.shares,
    **{f"density ratio, blocks {b}": lambda c, b=b: density(c, b) for b in SUBSETS},  # type: ignore[misc]
    **{f"density ratio, temperature {t}": lambda c, t=t: density(c, temperature=t) for t in (0.02, 0.1, 0.2)},  # type: ignore[misc]
    "density ratio, centred": lambda c: ratio((c.centred["345"] / 0.05).exp(), c.shares),
    "density ratio, mean over shots": by_shot,
    "forward and backward": mutual,
    "without hubs": without_hubs,
    **{f"smoothed over the query, temperature {t}": lambda c, t=t: smoothed(c, t) for t in (0.02, 0.05)},  # type: ignore[misc]
    "self-support": self_supported,
    **{f"guided filter, steepness {s}": lambda c, s=s: filtered(c, s) for s in (20, 40)},  # type: ignore[misc]
}


def compared(source: Pascal5i, query: str, supports: tuple[str, ...], class_id: int, features: Callable) -> Compared:  # type: ignore[type-arg]
    """An episode's cosines."""
    masks = [resize_mask(source.mask(name, [class_id]), SIZE) == 1 for name in supports]
    shares = torch.cat([adaptive_avg_pool2d(mask[None].float(), GRID).flatten() for mask in masks])

    def cosines(names: tuple[str, ...], centred: bool) -> dict[str, Tensor]:
        of = {b: features(query, centred)[b] @ torch.cat([features(name, centred)[b] for name in names]).T for b in "2345"}
        return {blocks: torch.stack([of[b] for b in blocks]).mean(0) for blocks in SUBSETS}

    image = to_input(source.image(query), SIZE)[None, :, SCORED, SCORED]
    plain = cosines(supports, centred=False)
    return Compared(
        plain, cosines(supports, centred=True), cosines((query,), centred=False)["345"], shares, len(supports), image
    )


def evaluated(source: Pascal5i, shot: int, episodes: int) -> dict[str, float]:
    """The mIoU of every idea in percent."""
    backbone, names = EfficientNetLite0(last_stage=True), by_class(source.pairs(Subset.VAL))

    @cache
    def maps(name: str) -> tuple[Tensor, ...]:
        return tuple(f.half() for f in backbone(to_input(source.image(name), SIZE)[None]))

    def features(name: str, centred: bool) -> dict[str, Tensor]:
        return {b: directions(f[0].float(), centred) for b, f in zip("2345", maps(name), strict=True)}

    found: dict[str, list[tuple[int, Tensor, Tensor]]] = {idea: [] for idea in IDEAS}
    for number in range(episodes):
        draw = draw_seeded(names, CLASSES, shot, SEED, number)[0]
        episode = compared(source, *draw, features)
        mask = resize_mask(source.mask(draw.query, [draw.class_id]), SIZE)[SCORED, SCORED]
        for idea, made in IDEAS.items():
            made_map = made(episode)
            square = made_map if made_map.ndim == 2 else made_map.reshape(GRID, GRID)
            found[idea].append((draw.class_id, resize(square[None, None], mask.shape)[0, 0], mask))
    return {idea: max(scores(results)) for idea, results in found.items()}


def directions(maps: Tensor, centred: bool) -> Tensor:
    """(hw, L d) unit vectors of a block's maps (L, d, h, w) on block 3's grid; block 2 is averaged, others interpolated."""
    x = (
        adaptive_avg_pool2d(maps, GRID)
        if maps.shape[3] > GRID
        else interpolate(maps, (GRID, GRID), mode="bilinear", align_corners=True)
    )
    x = x - x.mean((2, 3), keepdim=True) if centred else x
    x = x / (x.norm(dim=1, keepdim=True) + 1e-5) / len(x) ** 0.5
    return x.flatten(0, 1).flatten(1).T.contiguous()


def scores(results: list[tuple[int, Tensor, Tensor]]) -> Iterator[float]:
    """The mIoU at 60 thresholds."""
    low, high = torch.stack([found for _, found, _ in results]).flatten()[::97].quantile(torch.tensor([0.05, 0.995]))
    for threshold in torch.linspace(float(low), float(high), 60):
        sums = torch.zeros(20, 2)
        for class_id, found, mask in results:
            positive, true, known = found > threshold, mask == 1, mask != 255
            sums[class_id] += torch.stack([(positive & true).sum(), ((positive | true) & known).sum()])
        sums = sums[sums[:, 1] > 0]
        yield float(100 * (sums[:, 0] / sums[:, 1]).mean())


def main(root: str) -> None:
    """Print the table."""
    torch.set_grad_enabled(False)
    source = Pascal5i(root, f"{root}/splits")
    source.check()
    found = {shot: evaluated(source, shot, episodes) for shot, episodes in EPISODES.items()}
    rows = [[idea, *(f"{found[shot][idea]:.1f}" for shot in EPISODES)] for idea in IDEAS]
    print(aligned([["idea", *(f"{shot}-shot" for shot in EPISODES)], ["---", "---:", "---:"], *rows]))


if __name__ == "__main__":
    main(sys.argv[1])
