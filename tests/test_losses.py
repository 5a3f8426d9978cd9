"""The loss of eq. 1 against NumPy."""

import numpy as np
import pytest
import torch

from mshnet_pl.episode import Prediction
from mshnet_pl.options import Criterion, LossGrid
from mshnet_pl.training.losses import episode_loss


def cross_entropy(logits: np.ndarray, target: np.ndarray, counted: np.ndarray, foreground: float) -> float:
    log_sum = np.log(np.exp(logits).sum(1))
    chosen = np.take_along_axis(logits, target[:, None], 1)[:, 0]
    return float(np.average((log_sum - chosen)[counted], weights=np.where(target == 1, foreground, 1)[counted]))


@pytest.mark.parametrize(("ignore", "foreground"), [(False, 1.0), (True, 1.0), (False, 2.5), (True, 2.5)])
def test_loss(ignore: bool, foreground: float) -> None:
    rng = np.random.default_rng(0)
    final = rng.normal(size=(2, 2, 8, 8))
    inner = [rng.normal(size=(2, 2, 4, 4)) for _ in range(3)]
    mask = rng.choice([0, 1, 255], (2, 16, 16)).astype(np.uint8)
    expected = []
    for logits, step in ((final, 2), *((x, 4) for x in inner)):
        target = mask[:, ::step, ::step]  # nearest neighbour of an integer ratio
        counted = target != 255 if ignore else np.ones_like(target, bool)
        expected.append(cross_entropy(logits, (target == 1).astype(int), counted, foreground))
    prediction = Prediction(torch.from_numpy(final), {f"block{i}": torch.from_numpy(x) for i, x in enumerate(inner)})
    loss, parts = episode_loss(prediction, torch.from_numpy(mask), 0.25, ignore, foreground)
    assert [*parts] == ["final", "block0", "block1", "block2"]
    np.testing.assert_allclose([part.item() for part in parts.values()], expected, rtol=1e-12)
    assert loss.item() == pytest.approx(expected[0] + 0.25 * sum(expected[1:]), rel=1e-12)


@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize("aligned", [False, True])
def test_losses_at_the_images_size(ignore: bool, aligned: bool) -> None:
    rng = np.random.default_rng(1)
    mask = rng.choice([0, 1, 255], (3, 9, 7)).astype(np.uint8)
    logits = {name: torch.from_numpy(rng.normal(size=(3, 2, n, n))) for name, n in (("final", 4), ("inner", 3))}
    large = {
        name: torch.nn.functional.interpolate(x, (9, 7), mode="bilinear", align_corners=aligned).numpy()
        for name, x in logits.items()
    }
    prediction = Prediction(logits["final"], {"inner": logits["inner"]}, aligned=aligned)
    counted = mask != 255 if ignore else np.ones_like(mask, bool)
    _, parts = episode_loss(prediction, torch.from_numpy(mask), ignore_unknown=ignore, grid=LossGrid.image)
    for name, part in parts.items():
        expected = cross_entropy(large[name], (mask == 1).astype(int), counted, 1.0)
        assert part.item() == pytest.approx(expected, rel=1e-12)
    _, parts = episode_loss(
        prediction, torch.from_numpy(mask), ignore_unknown=ignore, grid=LossGrid.image, criterion=Criterion.dice
    )
    for name, part in parts.items():
        share, total = 1 / (1 + np.exp(-large[name])), 0.0
        for b, c in np.ndindex(3, 2):
            truth = (mask[b] == c) | ((mask[b] == 255) & (c == 0) & (not ignore))
            total += 1 - 2 * share[b, c][truth].sum() / ((share[b, c] ** 2).sum() + truth.sum())
        assert part.item() == pytest.approx(total / 3, rel=1e-12)
