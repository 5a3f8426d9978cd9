"""Intervals and p-values against the definition of the scores, simulation, SciPy and enumeration."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import t as student

from image_worlds import NAMES, World, alarm, covers, expected_miou, level, simulate
from mshnet_pl.evaluation.metrics import scores
from mshnet_pl.report import bootstrap
from mshnet_pl.report.bootstrap import Estimate, FoldSpread, Scored, estimate, fold_spread, freedom, p_value
from mshnet_pl.report.counts import FB_IOU, MIOU, PixelCounts, episode_counts, everything_foreground, influence, pooled
from mshnet_pl.report.episode_images import EpisodeImages
from mshnet_pl.report.image_variance import ClassDesign, design


def drawn_rows(rng: np.random.Generator, episodes: int, way: int = 1, classes: int = 4) -> np.ndarray:
    """(N x way, 6): number, class, intersection, predicted, true, known."""
    class_id = np.concatenate([rng.choice(classes, way, replace=False) for _ in range(episodes)])
    number = np.repeat(np.arange(episodes), way)
    true = rng.integers(0, 400, len(number))
    predicted = rng.integers(0, 400, len(number))
    intersection = (rng.random(len(number)) * np.minimum(true, predicted)).astype(np.int64)
    return np.stack([number, class_id, intersection, predicted, true, np.full(len(number), 1000)], axis=1)


def drawn_images(rng: np.random.Generator, rows: np.ndarray, way: int = 1, shot: int = 2, images: int = 6) -> EpisodeImages:
    """Images of the rows' classes; an episode's rows share its query."""
    query, supports = [], []
    for first in range(0, len(rows), way):
        name = f"image {rows[first, 1]} {rng.integers(images)}"
        for row in rows[first : first + way]:
            query.append(name)
            supports.append(tuple(f"image {row[1]} {i}" for i in rng.choice(images, shot, replace=False)))
    return EpisodeImages(tuple(query), tuple(supports), tuple(rows[:, 1].tolist()), way)


@pytest.mark.parametrize("way", [1, 3])
def test_pooled_scores_are_those_of_the_episodes_drawn(way: int) -> None:
    rng = np.random.default_rng(way)
    rows = drawn_rows(rng, 9, way)
    weights = rng.multinomial(9, np.full(9, 1 / 9), size=40)
    found = pooled(episode_counts(np.concatenate([rows, rows[:4]])), weights)  # repeated rows count once
    classes = np.unique(rows[:, 1])
    for r, weight in enumerate(weights):
        picked = [rows[rows[:, 0] == episode] for episode in np.repeat(np.arange(9), weight)]
        for number, part in enumerate(picked):
            part[:, 0] = number
        expected = scores(torch.from_numpy(np.concatenate(picked)))
        assert (found.miou[r], found.fb_iou[r]) == pytest.approx((expected.miou, expected.fb_iou))
        by_class = {int(c): iou for c, iou in zip(classes, found.class_iou[r], strict=True) if not np.isnan(iou)}
        assert by_class == pytest.approx(expected.class_iou)
    everything = pooled(everything_foreground(episode_counts(rows)), np.ones((1, 9)))
    assert everything.miou[0] == pytest.approx(scores(torch.from_numpy(rows)).everything_foreground_miou)


@pytest.mark.parametrize("way", [1, 2])
def test_resampled_scores_weigh_episodes_by_their_images(way: int) -> None:
    """An episode and class counts 1 and the excess of its images' multipliers over their class's mean."""
    rng = np.random.default_rng(3)
    rows = drawn_rows(rng, 30, way, classes=2)
    images, counts = drawn_images(rng, rows, way), episode_counts(rows)
    scored = Scored(images, ("a", "b"), counts)
    found = scored.resampled(MIOU, design((images,)))
    multiplier = {
        name: bootstrap._generator(name).poisson(1, bootstrap.RESAMPLES)
        for name in {*images.query, *(n for names in images.supports for n in names)}
    }
    for r in range(5):
        drawn = [[multiplier[n][r] for n in (q, *s)] for q, s in zip(images.query, images.supports, strict=True)]
        iou = []
        for c in (0, 1):
            own = rows[:, 1] == c
            excess = np.array(drawn)[own] - np.array(drawn)[own].mean()
            weight = 1 + excess.sum(1)
            i, predicted, true = (rows[own, 2:5] * weight[:, None]).sum(0)
            iou.append(100 * i / (predicted + true - i))
        assert found[r] == pytest.approx(np.mean(iou))


def test_five_supports_of_few_images_do_not_make_an_interval_narrow() -> None:
    """Sums of six multipliers may leave less than no pixels; such replicates must not be all of the spread."""
    rng = np.random.default_rng(4)
    rows = drawn_rows(rng, 40, classes=10)
    images = drawn_images(rng, rows, shot=5)
    scored = Scored(images, tuple(map(str, np.unique(rows[:, 1]))), episode_counts(rows))
    drawn = scored.resampled(MIOU, design((images,)))
    assert 0 <= drawn.min() and drawn.max() <= 100
    spread = fold_spread([[scored]], MIOU)
    _, low, high = estimate(scored.value(MIOU), [spread])
    assert low is not None and high is not None and high - low > 3 * np.sqrt(spread.variance)  # 3.9 of a normal distribution


@pytest.mark.parametrize("score", [MIOU, FB_IOU, "b"])
def test_influence_is_the_derivative(score: str) -> None:
    """Where every image is query once, the influences are those of the definition less the jackknife's correction."""
    rng = np.random.default_rng(1)
    rows = drawn_rows(rng, 40, classes=2)
    counts = episode_counts(rows)
    images = EpisodeImages(tuple(map(str, range(40))), (("s",),) * 40, tuple(rows[:, 1].tolist()), 1)
    found = influence(counts, images, 1 if score == "b" else score)
    once = np.ones((1, 40))
    for e in range(40):
        step = np.zeros((1, 40))
        step[0, e] = 1e-6
        up, down = (Scored(images, ("a", "b"), counts).of_counts(counts, score) for _ in range(2))
        shifted = pooled(counts, once + step)
        value = {MIOU: shifted.miou, FB_IOU: shifted.fb_iou, "b": shifted.class_iou[:, 1]}[score][0]
        derivative = (value - down) / 1e-6
        assert up == down
        assert found[e] == pytest.approx(derivative, rel=0.15, abs=1e-3)  # leverages of single images


def test_variance_of_a_tiny_design_by_enumeration() -> None:
    """The mean estimate over all signs of effects is the exact variance of the sum, as the model has it."""
    query, supports = np.array([0, 0, 1, 2, 1, 3]), np.array([[1], [2], [0], [1], [3], [0]])
    of = ClassDesign(np.arange(6), np.zeros(6, np.int64), query, supports)
    sums, estimates = [], []
    for signs in itertools.product((-1.0, 1.0), repeat=4 + 4 + 6):
        a, b = 2 * np.array(signs[:4]), np.array(signs[4:8]) + 0.5 * np.array(signs[:4])
        values = a[query] + b[supports[:, 0]] + np.array(signs[8:])
        sums.append(values.sum())
        estimates.append(of.variance(values))
    exact = Fraction(sum(int(4 * s**2) for s in sums), 4 * len(sums))
    assert np.mean(estimates) == pytest.approx(float(exact))


def test_interval_against_scipy() -> None:
    """A class whose every image is query once and support once has independent episodes, which SciPy can draw, too."""
    rng = np.random.default_rng(2)
    n = 400
    union = rng.integers(2_000, 40_000, n)
    intersection = (union * rng.beta(4, 3, n)).astype(np.int64)
    rows = np.column_stack([np.arange(n), np.zeros(n), intersection, union, intersection, np.full(n, 65_536)]).astype(
        np.int64
    )
    names = [f"query {i}" for i in range(n)]
    images = EpisodeImages(tuple(names), tuple((f"support {i}",) for i in range(n)), (0,) * n, 1)
    scored = Scored(images, ("a",), episode_counts(rows))
    _, low, high = estimate(scored.value(MIOU), [fold_spread([[scored]], MIOU)])

    def iou(i: np.ndarray, u: np.ndarray, axis: int = -1) -> np.ndarray:
        return 100 * i.sum(axis) / u.sum(axis)

    of_scipy = scipy_bootstrap((intersection, union), iou, paired=True, n_resamples=4000, method="percentile", rng=rng)
    width = of_scipy.confidence_interval.high - of_scipy.confidence_interval.low
    assert low == pytest.approx(of_scipy.confidence_interval.low, abs=0.08 * width)
    assert high == pytest.approx(of_scipy.confidence_interval.high, abs=0.08 * width)


@pytest.mark.parametrize(
    "world",
    [
        World(24, 600, 1),
        pytest.param(World(24, 600, 5), marks=pytest.mark.slow),
        pytest.param(World(60, 600, 1, training=0.02, trainings=3), marks=pytest.mark.slow),
    ],
    ids=["1-shot", "5-shot", "3 trainings"],
)
def test_intervals_hold_the_truth(world: World) -> None:
    """Of 150 simulated tests; ``experiments/interval_coverage.py`` does 1,000 each of more kinds."""
    held = sum(covers(world, seed) for seed in range(150))
    assert held >= 134  # 95%, less three standard deviations


def test_false_alarms() -> None:
    """Equally good methods, whose difference hangs on supports as much as on queries."""
    world = World(24, 600, 1, support=0.15)
    assert 1 <= sum(alarm(world, seed) for seed in range(150)) <= 15


def test_episodes_as_if_independent_miss_the_truth() -> None:
    """What this replaces: intervals over episodes that reuse 24 images a class hold the truth far too rarely."""
    held = 0
    for seed in range(60):
        simulated = simulate(World(24, 1000, 1), seed)
        rng = np.random.default_rng(seed)
        weights = rng.multinomial(1000, np.full(1000, 1 / 1000), size=200)
        low, high = np.percentile(pooled(simulated.counts[0], weights).miou, [2.5, 97.5])
        held += low <= expected_miou() <= high
    assert held <= 45


def test_more_episodes_of_the_same_images_say_little_more() -> None:
    """Two test seeds on the same images: far from half the variance."""
    simulated = simulate(World(24, 1200, 1), 5)
    images, counts = simulated.images, simulated.counts[0]
    halves = []
    for place in (slice(0, 600), slice(600, 1200)):
        part = EpisodeImages(images.query[place], images.supports[place], images.class_id[place], 1)
        halves.append(Scored(part, NAMES, PixelCounts(counts.numbers[:600], counts.classes, counts.pixels[place])))
    one = fold_spread([[halves[0]]], MIOU).variance
    assert 0.7 * one < fold_spread([halves], MIOU).variance < 1.1 * one


def test_training_seeds() -> None:
    """Two equal trainings say no more than one; different ones widen the interval, with Student's few degrees of freedom."""
    simulated = simulate(World(60, 600, 1), 0).scored()
    one, two = (fold_spread(simulated * k, MIOU) for k in (1, 2))
    assert two.variance == pytest.approx(one.variance) and two.training_variance == pytest.approx(0)
    varied = one._replace(training_variance=4.0, trainings=2)
    low, high = estimate(50.0, [varied])[1:]
    assert low is not None and high is not None
    assert 1 <= freedom([varied]) < 2 and high - low > 2 * 1.96 * np.sqrt(4 + one.variance) * 2
    assert freedom([one]) == pytest.approx(one.freedom)
    assert freedom([varied._replace(variance=0.0)] * 4) == pytest.approx(4)
    assert estimate(50.0, []) == Estimate(50.0)


@pytest.mark.parametrize(("folds", "ratios"), [(1, (0.1, 0.5, 1, 2, 4)), (4, (0.1, 0.5, 1, 2))], ids=["1 fold", "4 folds"])
@pytest.mark.parametrize("trainings", [3, 10])
def test_few_trainings_err_as_often_as_they_say(trainings: int, folds: int, ratios: tuple[float, ...]) -> None:
    """Whatever part of the variance is theirs; with Satterthwaite's degrees of freedom alone, 7.4% (ratio 4, one fold)."""
    for ratio in ratios:
        assert 0.04 < level(trainings, ratio, folds) < 0.06


@pytest.mark.parametrize("class_iou", [(0, 0), (100, 100), (0, 1), (2, 99)])
def test_intervals_of_two_images_a_class_hold_their_estimate(class_iou: tuple[int, int]) -> None:
    """The narrowest data that give one; where nothing varies there is none, except of a difference."""
    rows = np.array([(e, c, 2 * class_iou[e % 2], 200, 200, 999) for e, c in enumerate((0, 0, 1, 1))])
    images = EpisodeImages(("a", "b", "c", "d"), (("b",), ("a",), ("d",), ("c",)), (0, 0, 1, 1), 1)
    one = Scored(images, ("x", "y"), episode_counts(rows))
    spread = fold_spread([[one]], MIOU)
    value, low, high = estimate(one.value(MIOU), [spread])
    if class_iou[0] == class_iou[1]:
        assert low is None and high is None and spread.variance == 0
    else:
        assert low is not None and high is not None and low <= value <= high and low < high
    same = Scored(images, ("x", "y"), episode_counts(rows), less=episode_counts(rows))
    assert estimate(0.0, [fold_spread([[same]], MIOU)]) == (0, 0, 0)


def test_skewed_draws_hold_their_estimate() -> None:
    drawn = np.r_[np.full(1990, -0.1), np.full(10, 19.9)]
    fold = FoldSpread(float(np.mean(drawn**2)), 20.0, drawn, ["a"], np.ones(1), 0.0, 1)
    found = estimate(0.05, [fold]).of_score
    assert found.low == 0 and found.high == 0.05


def test_a_class_of_one_query_image_takes_the_interval_of_what_it_is_part_of() -> None:
    rows = drawn_rows(np.random.default_rng(0), 40, classes=2)
    names = ["alone" if class_id else str(i) for i, class_id in enumerate(rows[:, 1])]
    images = EpisodeImages(tuple(names), (("s",),) * 40, tuple(rows[:, 1].tolist()), 1)
    scored = Scored(images, ("a", "b"), episode_counts(rows))
    found = {score: estimate(50.0, [fold_spread([[scored]], score)]) for score in ("a", "b", MIOU, FB_IOU)}
    assert [score for score, made in found.items() if made.low is not None] == ["a"]


def test_p_value_of_few_trainings_is_students() -> None:
    """At every level, not at 5% alone: four trainings, and next to nothing that varies by images."""
    fold = FoldSpread(1e-12, np.inf, np.zeros(1), ["image"], np.full(1, 1e-6), 1.0, 4)
    for observed in (0.5, 2.0, 4.0, 8.0):
        expected = 2 * student.sf(observed, 3)
        assert p_value(observed, [fold]) == pytest.approx(expected, abs=4 * np.sqrt(expected / bootstrap.PERMUTATIONS))


def test_p_value_against_enumeration() -> None:
    by_image = np.array([3.0, -1.0, 2.0, 0.5, 1.5, -0.5, 1.0, 2.5])
    variance = float(by_image @ by_image)
    fold = FoldSpread(variance, np.inf, np.zeros(1), [f"image {i}" for i in range(8)], by_image, 0.0, 1)
    every = np.array(list(itertools.product((-1, 1), repeat=8))) @ by_image
    observed = 7.0
    exact = np.mean(np.abs(every) >= observed)
    assert 0.01 < exact < 0.5
    tolerance = 4 * np.sqrt(exact * (1 - exact) / bootstrap.PERMUTATIONS)
    assert p_value(observed, [fold]) == pytest.approx(exact, abs=tolerance)
    assert p_value(1e6, [fold]) == 1 / (bootstrap.PERMUTATIONS + 1) and p_value(0.0, [fold]) == 1
