"""Two runs on the same episodes: the difference of their scores, its interval and a test of it."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

from mshnet_pl.errors import ConfigError
from mshnet_pl.report.bootstrap import LEVEL, PERMUTATIONS, Estimate, Scored, estimate, fold_spread, p_value
from mshnet_pl.report.counts import FB_IOU, MIOU
from mshnet_pl.report.episode_images import Behind, EpisodeImages, few, single
from mshnet_pl.report.formats import aligned
from mshnet_pl.report.grouping import rows
from mshnet_pl.report.measured import Measured
from mshnet_pl.report.row import Cell, FoldName, Row, named_folds
from mshnet_pl.results import EPISODE_IMAGES
from mshnet_pl.utils.text import escaped


class Difference(NamedTuple):
    """Of one score, in percent; the mean over folds of the means over seeds."""

    a: float
    b: float
    difference: Estimate
    """A - B with its interval: both runs meet the same draws of images."""
    p: float | None
    """Of the paired permutation test, whose unit is the image; two-sided. None where there is no interval, either."""


class Comparison(NamedTuple):
    """What differs between A and B."""

    a: str
    b: str
    shot: int
    folds: list[FoldName]
    episodes: int
    """Distinct ones, over all folds and test seeds."""
    images: list[Behind]
    """How many images stand behind each fold."""
    scores: dict[str, Difference]
    notes: list[str]
    """What limits intervals and p-values."""


Pairs = Mapping[FoldName, Sequence[Sequence[Scored]]]
"""By fold, then by training seed."""


def compare(a: Sequence[Measured], b: Sequence[Measured], weights: str | None = None, shot: int | None = None) -> Comparison:
    """Compare what two folders hold: one result each, or the same folds, training seeds and test seeds of one method.

    Args:
        a: measurements of the first folder.
        b: of the second.
        weights: which to compare; needed where a folder holds several. Untrained networks only count if named.
        shot: number of shots of the test, needed where a folder holds several.

    Raises:
        ConfigError: a folder leaves a choice, or the two cannot be paired; says why.
    """
    a_label, b_label, shot_tested, pairs = paired(a, b, weights, shot)
    sets = {pair.images: len(pair.counts.numbers) for by_seed in pairs.values() for group in by_seed for pair in group}
    scores = {name: _difference(pairs, name) for name in (MIOU, FB_IOU)}
    images = [Behind.of(pair.images for group in by_seed for pair in group) for by_seed in pairs.values()]
    notes = [*few(zip(pairs, images, strict=True)), *single(images_of(pairs), "no interval, no p")]
    return Comparison(a_label, b_label, shot_tested, [*pairs], sum(sets.values()), images, scores, notes)


def paired(
    a: Sequence[Measured], b: Sequence[Measured], weights: str | None = None, shot: int | None = None
) -> tuple[str, str, int, Pairs]:
    """Both labels, the number of shots, and the tests on the same episodes; arguments as ``compare``'s.

    Raises:
        ConfigError: as ``compare``.
    """
    (row_a, shot_a), (row_b, shot_b) = (_chosen(tests, name, weights, shot) for tests, name in ((a, "A"), (b, "B")))
    if shot_a != shot_b:
        raise ConfigError(f"A was tested with {shot_a}-shot episodes, B with {shot_b}-shot ones; choose one with shot=K")
    folds = [row.folds(shot_a) for row in (row_a, row_b)]
    if folds[0] != folds[1]:
        raise ConfigError(f"A has folds {folds[0]}, B has folds {folds[1]}; give folders with the same folds")
    pairs = {fold: list(_pairs(row_a, row_b, Cell(shot_a, fold))) for fold in folds[0]}
    return row_a.label, row_b.label, shot_a, pairs


def markdown(comparison: Comparison) -> str:
    """The comparison as a Markdown table."""
    lines = [
        f"A: {escaped(comparison.a)}",
        f"B: {escaped(comparison.b)}",
        f"{named_folds(comparison.folds)}, {comparison.shot}-shot, {comparison.episodes:,} episodes, the same for both",
        f"distinct images: {'; '.join(map(str, comparison.images))}",
        "",
    ]
    table = [["", "A", "B", "A - B", f"{LEVEL}% interval", "p"], ["---"] + ["---:"] * 5]
    for name, (a, b, (value, low, high), p) in comparison.scores.items():
        interval = "-" if low is None or high is None else f"[{low:+.2f}, {high:+.2f}]"
        table.append([name, f"{a:.1f}", f"{b:.1f}", f"{value:+.2f}", interval, "-" if p is None else f"{p:.4f}"])
    note = f"Interval: paired bootstrap over images. p: permutation test by image, two-sided, {PERMUTATIONS:,} permutations."
    return "\n".join([*lines, aligned(table), "", note, *comparison.notes])


def _chosen(tests: Sequence[Measured], name: str, weights: str | None, shot: int | None) -> tuple[Row, int]:
    """The only row and number of shots that there are."""
    own = [row for row in rows(tests) if not row.is_baseline]
    options = [(row, k) for row in own for k in row.shots]
    fitting = [
        (row, k)
        for row, k in options
        if (row.key.weights == weights if weights else row.key.weights != "untrained") and shot in (None, k)
    ]
    if len(fitting) != 1:
        listed = "".join(f"\n  {k}-shot of {row.label} {row.differences or ''}" for row, k in options)
        what = "leaves a choice" if fitting else "has nothing that fits"
        raise ConfigError(f"{name} {what}; choose by weights=NAME and shot=K, or give one result's folder. It has:{listed}")
    return fitting[0]


def _pairs(a: Row, b: Row, cell: Cell) -> Iterator[list[Scored]]:
    """By training seed, in ascending order; those of A and B may bear other numbers.

    Raises:
        ConfigError: the two were not measured on the same ground.
    """
    sides: list[list[dict[int, Measured]]] = []
    for row in (a, b):
        by_seed: dict[int, dict[int, Measured]] = defaultdict(dict)
        for seeds in sorted(row.tests[cell]):
            by_seed[seeds.training][seeds.test] = row.tests[cell][seeds]
        sides.append(list(by_seed.values()))
    seeds_a, seeds_b = ([sorted(group) for group in side] for side in sides)
    if seeds_a != seeds_b:
        raise ConfigError(
            f"fold {cell.fold}: A has test seeds {seeds_a} of {len(seeds_a)} trainings, B has {seeds_b} of {len(seeds_b)}; "
            "compare the same number of trainings on the same test seeds"
        )
    for group_a, group_b in zip(*sides, strict=True):
        yield [_pair(group_a[seed], group_b[seed], f"fold {cell.fold}, test seed {seed}") for seed in group_a]


def _pair(a: Measured, b: Measured, where: str) -> Scored:
    for what, x, y in (
        ("data.novel_pixels", *(m.result.config["data"]["novel_pixels"] for m in (a, b))),
        ("eval.resolution", a.test.resolution, b.test.resolution),
        ("SHA-256 of the episodes", a.test.episodes_sha256, b.test.episodes_sha256),
    ):
        if x != y:
            raise ConfigError(f"{where}: {what} is {x} in A and {y} in B; only runs on the same ground can be compared")
    counts_a, counts_b = a.counts, b.counts
    if counts_a is None or counts_b is None:
        folder = a.folder if counts_a is None else b.folder
        raise ConfigError(f"{where}: {folder} lacks the episodes' pixel counts (episodes_*.csv); run that test again")
    truth_a, truth_b = (counts.pixels[..., 2:] for counts in (counts_a, counts_b))
    if not np.array_equal(truth_a, truth_b):
        raise ConfigError(f"{where}: the true masks of A and B differ in size or content; only equal ones can be compared")
    if (images := a.images or b.images) is None:
        raise ConfigError(
            f"{where}: neither {a.folder} nor {b.folder} nor a folder above has the names of the episodes' images "
            f"({EPISODE_IMAGES.format(a.test.episodes_sha256)}); run one of the tests again"
        )
    return Scored(images, tuple(a.test.class_iou), counts_a, less=counts_b)


def images_of(pairs: Pairs) -> Iterator[tuple[FoldName, EpisodeImages]]:
    """Those of every test, each with its fold."""
    for fold, by_seed in pairs.items():
        yield from ((fold, pair.images) for group in by_seed for pair in group)


def _difference(pairs: Pairs, score: str) -> Difference:
    def mean(value: Callable[[Scored], float]) -> float:
        return fmean(fmean(fmean(map(value, group)) for group in by_seed) for by_seed in pairs.values())

    a = mean(lambda pair: pair.of_counts(pair.counts, score))
    difference = mean(lambda pair: pair.value(score))
    spreads = [fold_spread(by_seed, score) for by_seed in pairs.values()]
    found = estimate(difference, spreads)
    return Difference(a, a - difference, found, None if found.low is None else p_value(difference, spreads))
