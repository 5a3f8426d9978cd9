"""What the recorded runs say about the paper's claim and about what limits the score, as Markdown.

Run with ``python experiments/pascal5i_mini/analysis.py`` from anywhere; it reads the result files beside it alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from jaxtyping import Bool, Float64

from mshnet_pl.report.bootstrap import Scored, estimate, fold_spread
from mshnet_pl.report.collection import collect
from mshnet_pl.report.compare import compare
from mshnet_pl.report.counts import MIOU, PixelCounts, pooled
from mshnet_pl.report.formats import aligned
from mshnet_pl.report.measured import Measured
from mshnet_pl.report.row import named_folds

HERE = Path(__file__).resolve().parent
PAIRS = (
    ("both", "baseline"),
    ("contrast_baseline", "baseline"),
    ("both", "contrast_baseline"),
    ("unfiltered", "contrast_baseline"),
    ("unfiltered", "both"),
    ("improved", "baseline"),
    ("improved", "both"),
    ("improved", "unfiltered"),
    ("improved_800_steps", "improved"),
    ("h200/both", "baseline"),
    ("h200/improved", "baseline"),
    ("h200/both", "h200/cosine"),
    ("h200/both", "h200/prototype"),
    ("h200/both_5shot", "h200/both"),
    ("h200/both", "h200/hsnet"),
    ("h200/improved", "h200/both"),
    ("h200/both", "both"),
    ("h200/improved", "improved"),
    ("h200_seeds/both", "h200_seeds/prototype"),
    ("h200_seeds/improved", "h200_seeds/both"),
    ("improved/fold0", "cross_fitted/fold0"),
    ("improved/fold1", "cross_fitted/fold1"),
)
SHOTS = (1, 5)
PUBLISHED = {
    "prototypes, training-free": HERE.parent / "field" / "long" / "prototype_baseline",
    "`recipe=paper`, 800 steps": HERE.parent / "field" / "long" / "mshnet",
    "`recipe=paper`, 400 steps in fp32": HERE / "fp32" / "both",
    "the same from a fresh clone": HERE / "fp32" / "repeated",
    "the same with the cosine alone": HERE / "fp32" / "cosine",
    "the same with the prototype alone": HERE / "fp32" / "prototype",
    "the same network, guided filter": HERE / "guided" / "paper",
    "`recipe=improved`, 800 steps in fp32": HERE / "fp32" / "improved_800_steps",
    "`recipe=improved` without its filter, 800 steps": HERE / "unfiltered_800_steps",
    "`recipe=improved` without its filter, 400 steps in fp32": HERE / "late_fusion" / "without",
    "the same network, late fusion": HERE / "late_fusion" / "with",
    "`recipe=improved`, 400 steps in fp32 (the same network)": HERE / "guided" / "improved",
    "`recipe=improved`, 400 steps": HERE / "guided" / "improved_bf16",
    "`recipe=paper`, 400 steps on the GPU": HERE / "h200" / "published" / "both",
    "`recipe=improved`, 400 steps on the GPU": HERE / "h200" / "published" / "improved",
}
"""Records that were tested on fold 0's published 1-shot episodes."""
REPEATED = {
    "`recipe=paper`, 400 steps": ("h200/published/both", "h200_seeds/published/both"),
    "`recipe=paper`, 800 steps": ("h200_seeds/published/both_800_steps",),
    "`recipe=improved`, 400 steps": ("h200/published/improved", "h200_seeds/published/improved"),
    "`recipe=improved`, 800 steps": ("h200_seeds/published/improved_800_steps",),
}
"""Trainings with several seeds on one GPU, tested on the same episodes."""
OF_ONE_MACHINE = (
    ("fp32/both", "fp32/cosine"),
    ("fp32/both", "fp32/prototype"),
    ("fp32/improved_800_steps", "guided/improved"),
    ("guided/improved", "fp32/both"),
    ("guided/improved", "late_fusion/without"),
    ("guided/paper", "fp32/both"),
    ("late_fusion/without", "fp32/both"),
    ("h200_seeds/published/improved_800_steps", "h200_seeds/published/both_800_steps"),
)
"""Trained in the same precision on the same machine and tested on the same published episodes."""
PARTS = 4

Test = tuple[int, int, int, int]
"""Fold, shots, seed of the episodes and seed of the training."""


def main() -> None:
    """Print every section."""
    print("## Differences on the same episodes, mIoU in percent\n")
    print(aligned([["A", "B", "tested", "A", "B", "A - B", "p"], ["---"] * 3 + ["---:"] * 4, *differences()]))
    print("\n## Episode by episode: the networks of one similarity, and what the better of the two would give\n")
    print(aligned(list(complements({name: counts_of(f"h200/{name}") for name in ("cosine", "prototype", "both")}))))
    print("\n## By the object's share of the query, 1-shot\n")
    print(aligned(list(sizes({name: counts_of(name) for name in ("both", "unfiltered", "improved")}))))
    print("\n## Published episodes of fold 0, 1-shot, mIoU in percent\n")
    print(aligned([["", "first 400", "all 1,000"], ["---", "---:", "---:"], *published()]))
    print("\n## The same of several trainings each: mean, standard deviation and range\n")
    print(aligned([["", "trainings", "first 400", "all 1,000"], ["---", *["---:"] * 3], *repeated()]))


def differences() -> Iterator[list[str]]:
    """A line a pair and number of shots, over the folds, seeds and trainings that both sides have."""
    for (a, b), shot in product((*PAIRS, *OF_ONE_MACHINE), SHOTS):
        sides = [[m for m in collect([HERE / name]).tests if m.test.shot == shot] for name in (a, b)]
        if all(sides):
            shared = set.intersection(*({_place(m) for m in side} for side in sides))
            chosen = ([m for m in side if _place(m) in shared] for side in sides)
            found = compare(*chosen).scores[MIOU]
            value, low, high = found.difference
            numbers = (f"{found.a:.1f}", f"{found.b:.1f}", f"{value:+.1f} [{low:+.1f}, {high:+.1f}]", f"{found.p:.4f}")
            yield [a, b, f"{shot}-shot, {named_folds(sorted({fold for fold, *_ in shared}))}{_trainings(shared)}", *numbers]


def _trainings(shared: Iterable[Test]) -> str:
    seeds = {seed for *_, seed in shared}
    return f", {len(seeds)} trainings" if len(seeds) > 1 else ""


def counts_of(name: str) -> dict[Test, PixelCounts]:
    """The pixel counts of a method's tests."""
    return {_place(m): m.counts for m in collect([HERE / name]).tests if m.counts is not None}


def _place(measured: Measured) -> Test:
    return measured.result.config["fold"], measured.test.shot, measured.test.seed, measured.result.config["seed"]


def ious(counts: PixelCounts) -> Float64[np.ndarray, "N"]:
    """The IoU of every episode, in percent."""
    intersection, predicted, true, *_ = np.moveaxis(counts.pixels.sum(1), -1, 0)
    return 100 * intersection / (predicted + true - intersection)


def complements(tests: Mapping[str, Mapping[Test, PixelCounts]]) -> Iterator[list[str]]:
    """A line a number of shots."""
    yield ["tested", "correlation of IoU", "cosine better by > 5", "prototype better by > 5", "better of the two", "both"]
    yield ["---", *["---:"] * 5]
    shared = sorted(set.intersection(*map(set, tests.values())))
    for shot in sorted({shot for _, shot, *_ in shared}):
        places = [place for place in shared if place[1] == shot]
        a, b = (np.concatenate([ious(tests[name][place]) for place in places]) for name in ("cosine", "prototype"))
        best = [_better(tests["cosine"][place], tests["prototype"][place]) for place in places]
        both = [tests["both"][place] for place in places]
        yield [
            f"{shot}-shot",
            f"{np.corrcoef(a, b)[0, 1]:.2f}",
            *(f"{100 * np.mean(x - y > 5):.0f}%" for x, y in ((a, b), (b, a))),
            *(f"{_over_folds(places, found):.1f}" for found in (best, both)),
        ]


def _better(a: PixelCounts, b: PixelCounts) -> PixelCounts:
    """Of every episode the counts with the larger IoU."""
    return a._replace(pixels=np.where((ious(a) >= ious(b))[:, None, None], a.pixels, b.pixels))


def _over_folds(places: Sequence[Test], counts: Sequence[PixelCounts]) -> float:
    """The mean over folds of the means over seeds of mIoU."""
    by_fold: dict[int, list[float]] = {}
    for (fold, *_), found in zip(places, counts, strict=True):
        by_fold.setdefault(fold, []).append(_miou(found))
    return fmean(map(fmean, by_fold.values()))


def sizes(tests: Mapping[str, Mapping[Test, PixelCounts]]) -> Iterator[list[str]]:
    """A line a quarter of the episodes, from small objects to large ones: pooled IoU, and the parts of the union."""
    names = list(tests)
    yield ["object's share", *(f"{name}: IoU" for name in names), f"{names[-1]}: missed", f"{names[-1]}: too much"]
    yield ["---", *["---:"] * (len(names) + 2)]
    places = sorted(place for place in set.intersection(*map(set, tests.values())) if place[1] == 1)
    stacked = {name: np.concatenate([tests[name][place].pixels.sum(1) for place in places]) for name in names}
    share = 100 * stacked[names[0]][:, 2] / stacked[names[0]][:, 3]
    limits = np.quantile(share, np.linspace(0, 1, PARTS + 1))
    for low, high in pairwise(limits.tolist()):
        inside = (share >= low) & ((share < high) | (high == limits[-1]))
        found = {name: _pooled_parts(pixels, inside) for name, pixels in stacked.items()}
        last = found[names[-1]]
        yield [f"{low:.1f}% to {high:.1f}%", *(f"{found[n][0]:.1f}" for n in names), f"{last[1]:.1f}", f"{last[2]:.1f}"]


def published() -> Iterator[list[str]]:
    """A line a record: the scores of the first 400 episodes and of all, with intervals over images."""
    for name, folder in PUBLISHED.items():
        for measured in collect([folder]).tests:
            if measured.test.shot == 1:
                yield [name, *(_with_interval(measured, n) for n in (400, measured.test.episodes))]


def repeated() -> Iterator[list[str]]:
    """A line a recipe and length of training."""
    for name, folders in REPEATED.items():
        counts = [m.counts for m in collect([HERE / folder for folder in folders]).tests if m.counts is not None]
        scores = [[_miou(c._replace(pixels=c.pixels[:n])) for c in counts] for n in (400, None)]
        yield [name, str(len(counts)), *(f"{fmean(s):.1f} ± {stdev(s):.1f} ({min(s):.1f} to {max(s):.1f})" for s in scores)]


def _miou(counts: PixelCounts) -> float:
    return float(pooled(counts, np.ones((1, len(counts.pixels)))).miou[0])


def _with_interval(measured: Measured, episodes: int) -> str:
    """The score of the first episodes."""
    counts, images = measured.counts, measured.images
    assert counts is not None and images is not None
    first = counts._replace(numbers=counts.numbers[:episodes], pixels=counts.pixels[:episodes])
    scored = Scored(images.first(episodes), tuple(measured.test.class_iou), first)
    value, low, high = estimate(scored.value(MIOU), [fold_spread([[scored]], MIOU)])
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _pooled_parts(pixels: Float64[np.ndarray, "N 5"], inside: Bool[np.ndarray, "N"]) -> tuple[float, float, float]:
    """Percent of the union: hit, missed, too much."""
    intersection, predicted, true, *_ = pixels[inside].sum(0)
    union = predicted + true - intersection
    return 100 * intersection / union, 100 * (true - intersection) / union, 100 * (predicted - intersection) / union


if __name__ == "__main__":
    main()
