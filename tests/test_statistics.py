"""Intervals and p-values against the definition of the scores, simulation, SciPy and enumeration."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import permutation_test

from mshnet_pl.evaluation.metrics import scores
from mshnet_pl.report import bootstrap as statistics
from mshnet_pl.report.bootstrap import PixelCounts


def drawn_rows(rng: np.random.Generator, episodes: int, way: int = 1, classes: int = 4) -> np.ndarray:
    """(N x way, 6): number, class, intersection, predicted, true, known."""
    class_id = np.concatenate([rng.choice(classes, way, replace=False) for _ in range(episodes)])
    number = np.repeat(np.arange(episodes), way)
    true = rng.integers(0, 400, len(number))
    predicted = rng.integers(0, 400, len(number))
    intersection = (rng.random(len(number)) * np.minimum(true, predicted)).astype(np.int64)
    return np.stack([number, class_id, intersection, predicted, true, np.full(len(number), 1000)], axis=1)


def miou(counts: PixelCounts) -> float:
    return float(statistics.pooled(counts, np.ones((1, len(counts.pixels)))).miou[0])


@pytest.mark.parametrize("way", [1, 3])
def test_resampled_scores_are_those_of_the_episodes_drawn(way: int) -> None:
    rng = np.random.default_rng(way)
    rows = drawn_rows(rng, 9, way)
    weights = rng.multinomial(9, np.full(9, 1 / 9), size=40)
    pooled = statistics.pooled(
        statistics.episode_counts(np.concatenate([rows, rows[:4]])), weights
    )  # repeated rows count once
    classes = np.unique(rows[:, 1])
    for r, weight in enumerate(weights):
        picked = [rows[rows[:, 0] == episode] for episode in np.repeat(np.arange(9), weight)]
        for number, part in enumerate(picked):
            part[:, 0] = number
        expected = scores(torch.from_numpy(np.concatenate(picked)))
        assert (pooled.miou[r], pooled.fb_iou[r]) == pytest.approx((expected.miou, expected.fb_iou))
        found = {int(c): iou for c, iou in zip(classes, pooled.class_iou[r], strict=True) if not np.isnan(iou)}
        assert found == pytest.approx(expected.class_iou)
    everything = statistics.pooled(statistics.everything_foreground(statistics.episode_counts(rows)), np.ones((1, 9)))
    assert everything.miou[0] == pytest.approx(scores(torch.from_numpy(rows)).everything_foreground_miou)


def test_intervals_hold_the_truth_in_95_percent_of_experiments() -> None:
    """Episodes of 2 classes, small objects hard and large ones easy; the true mIoU is known from the expectations."""
    size, quality = np.array([[2e4, 1.2e5], [1e4, 2e5]]), np.array([[0.4, 0.75], [0.5, 0.8]])
    truth = 100 * np.mean((size * quality).sum(1) / size.sum(1))
    rng, inside = np.random.default_rng(0), 0
    for experiment in range(1000):
        class_id, large = rng.integers(2, size=240), rng.integers(2, size=240)
        union = rng.gamma(3, size[class_id, large] / 3)
        intersection = union * rng.beta(5 * quality[class_id, large], 5 * (1 - quality[class_id, large]))
        half = (union + intersection) / 2
        rows = (
            np.stack([np.arange(240), class_id, intersection, half, half, np.full(240, 1e6)], axis=1)
            .round()
            .astype(np.int64)
        )
        weights = statistics.resamples(f"experiment {experiment}", 240, count=200)
        low, high = statistics.estimate(0.0, statistics.pooled(statistics.episode_counts(rows), weights).miou)[1:]
        inside += low <= truth <= high
    assert 930 <= inside <= 970


def test_training_seeds() -> None:
    """Two equal trainings on the same episodes say no more than one; different ones widen the interval."""
    draws = np.random.default_rng(0).normal(50, 1, 2000)
    one = statistics.estimate(50.0, statistics.over_seeds([draws], fold=0))
    assert statistics.estimate(50.0, statistics.over_seeds([draws, draws], fold=0)) == one
    low, high = statistics.estimate(50.0, statistics.over_seeds([draws - 4, draws + 4], fold=0))[1:]
    assert low == pytest.approx(50 - 4 - 1.0, abs=0.9) and high == pytest.approx(50 + 4 + 1.0, abs=0.9)


def test_p_value_against_enumeration_and_scipy() -> None:
    rng = np.random.default_rng(5)
    rows_a = drawn_rows(rng, 10, classes=2)
    rows_b = rows_a.copy()
    rows_b[:, 2] = rows_a[:, 2] * rng.uniform(0.5, 1.15, 10)
    a, b = statistics.episode_counts(rows_a), statistics.episode_counts(rows_b)
    observed = miou(a) - miou(b)

    def difference(first: np.ndarray, second: np.ndarray, axis: int = -1) -> float:
        both = np.concatenate([a.pixels, b.pixels])  # the samples are places in it
        return miou(a._replace(pixels=both[first.astype(int)])) - miou(a._replace(pixels=both[second.astype(int)]))

    places = np.arange(10), np.arange(10, 20)
    every = np.array(
        [difference(*np.where(np.array(swap) == 1, places[::-1], places)) for swap in itertools.product((0, 1), repeat=10)]
    )  # fmt: skip
    exact = np.mean(np.abs(every) >= abs(observed) - 1e-9)
    assert 0.01 < exact < 0.5
    all_swaps = np.array(list(itertools.product((0, 1), repeat=10)), dtype=np.int8)
    after_a, after_b = statistics.swapped(a, b, all_swaps)
    np.testing.assert_allclose(after_a.miou - after_b.miou, every, atol=1e-9)
    of_scipy = permutation_test(places, difference, permutation_type="samples", vectorized=False, n_resamples=np.inf).pvalue
    assert exact == pytest.approx(of_scipy)
    sampled_a, sampled_b = statistics.swapped(a, b, statistics.swaps("episodes", 10))
    found = statistics.p_value(observed, sampled_a.miou - sampled_b.miou)
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / statistics.PERMUTATIONS))
    assert statistics.p_value(1e6, np.zeros(99)) == 0.01 and statistics.p_value(0.0, np.zeros(99)) == 1
