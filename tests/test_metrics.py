"""The pooled scores against NumPy."""

import numpy as np
import pytest
import torch

from mshnet_pl.evaluation.metrics import EpisodeIoU, episode_counts, scores


def drawn(episodes: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(seed)
    predicted = rng.integers(0, 2, (episodes, 7, 9))
    mask = rng.choice([0, 1, 255], (episodes, 7, 9), p=[0.6, 0.3, 0.1])
    class_id = rng.integers(10, 14, episodes)
    return (
        torch.from_numpy(predicted.astype(np.uint8)),
        torch.from_numpy(mask.astype(np.uint8)),
        torch.from_numpy(class_id),
        torch.arange(episodes),
    )


def test_scores_are_pooled_over_episodes() -> None:
    predicted, mask, class_id, number = drawn(40)
    found = scores(episode_counts(predicted, mask, class_id, number))
    p, m, c = predicted.numpy(), mask.numpy(), class_id.numpy()
    known = m != 255
    ious = {}
    for k in np.unique(c):
        these = (c == k)[:, None, None] & known
        intersection = ((p == 1) & (m == 1) & these).sum()
        union = (((p == 1) | (m == 1)) & these).sum()
        assert (found.intersection[int(k)], found.union[int(k)]) == (intersection, union)
        ious[int(k)] = 100 * intersection / union
    foreground = 100 * ((p == 1) & (m == 1) & known).sum() / (((p == 1) | (m == 1)) & known).sum()
    background = 100 * ((p == 0) & (m == 0) & known).sum() / (((p == 0) | (m == 0)) & known).sum()
    assert found.class_iou == pytest.approx(ious)
    assert found.miou == pytest.approx(np.mean(list(ious.values())))
    assert (found.foreground_iou, found.background_iou) == pytest.approx((foreground, background))
    assert found.fb_iou == pytest.approx((foreground + background) / 2)
    everything = scores(episode_counts(torch.ones_like(predicted), mask, class_id, number))
    assert found.everything_foreground_miou == pytest.approx(everything.miou)


def test_batches_and_repeated_episodes_change_nothing() -> None:
    batch = drawn(50)
    whole = scores(episode_counts(*batch))
    metric = EpisodeIoU()
    order = np.random.default_rng(1).permutation(50)
    for part in np.array_split(np.concatenate([order, order[:13]]), 9):  # 13 episodes come twice, as padding does
        metric.update(*(x[torch.from_numpy(part)] for x in batch))
    assert metric.compute() == whole
    metric.reset()
    assert len(metric.counts()) == 0


def test_a_class_that_never_occurs_scores_nothing() -> None:
    empty = torch.zeros(1, 3, 3, dtype=torch.uint8)
    found = scores(episode_counts(empty, empty, torch.tensor([4]), torch.tensor([0])))
    assert (found.miou, found.background_iou, found.fb_iou) == (0, 100, 50)
