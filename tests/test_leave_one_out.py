"""A threshold that is chosen by segmenting every support by others, against loops."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import Command
from mshnet_pl import Segmenter
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.episode import Episode
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.inference.leave_one_out import best_threshold, others
from mshnet_pl.inference.predictor import Predictor
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.models.density_ratio import DensityRatio
from mshnet_pl.models.layers import resize
from test_refine import SHOTS, SIZE, TINY, baseline, drawn, network


def density_ratio() -> AbstractMethod:
    return DensityRatio(baseline().backbone).eval()


def naive(margins: np.ndarray, masks: np.ndarray) -> float:
    """(K, h, w) margins and (K, H, W) masks to the threshold."""
    thresholds, scores = [step / 5 for step in range(-15, 16)], []
    (shots, height, width), (tall, wide) = margins.shape, masks.shape[1:]
    for threshold in thresholds:
        ious = []
        for k in range(shots):
            both = either = 0.0
            for i in range(height):
                for j in range(width):
                    rows = slice(i * tall // height, -(-(i + 1) * tall // height))
                    share = masks[k, rows, j * wide // width : -(-(j + 1) * wide // width)].mean()
                    found = float(margins[k, i, j] > threshold)
                    both += found * share
                    either += found + share - found * share
            ious.append(both / either if either else 0.0)
        scores.append(np.mean(ious))
    weights = np.exp((np.array(scores) - max(scores)) / 0.03)
    return (shots - 2) / (shots + 1) * float((weights * thresholds).sum() / weights.sum())


@pytest.mark.parametrize("shots", [3, 5, 10])
def test_the_threshold_equals_a_loop(shots: int) -> None:
    rng = np.random.default_rng(shots)
    masks = np.zeros((2, shots, 14, 21), np.float32)
    masks[:, :, 3:9, 5:16] = 1
    margins = (
        rng.normal(size=(2, shots, 6, 9)).astype(np.float32) + 2 * masks[:, :, 1:13:2, 1:19:2] - 0.6 * np.ones((2, 1, 1, 1))
    )
    margins[1] += 1.9  # which calls too much the object
    found = best_threshold(torch.from_numpy(margins).float(), torch.from_numpy(masks))
    expected = [naive(margins[b].astype(np.float32), masks[b]) for b in range(2)]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-4)
    assert expected[1] > expected[0] + 0.1


def test_who_predicts_a_support() -> None:
    assert [others(k, 3) for k in range(3)] == [[1, 2], [2, 0], [0, 1]]
    assert others(5, 7) == [6, 0, 1, 2]
    counts = np.bincount([place for k in range(20) for place in others(k, 20)])
    assert set(counts) == {4}  # every support predicts as many as any other


@pytest.mark.parametrize("make", [network, baseline, density_ratio])
@pytest.mark.parametrize("flip", [False, True])
@torch.no_grad()
def test_supports_move_the_logits(make: Callable[[], AbstractMethod], flip: bool) -> None:
    method, episode = make(), drawn(seed=3)
    expected = []
    for b in range(2):
        views = []
        for mirrored in (False, True)[: 1 + flip]:
            support, masks, query = (
                x.flip(-1) if mirrored else x for x in (episode.support[b], episode.support_mask[b], episode.query[b])
            )
            margins = []
            for k in range(SHOTS):
                given = others(k, SHOTS)
                logits = method(support[None, k], support[None, given], masks[None, given]).logits[0].numpy()
                margins.append(logits[1] - logits[0])
            threshold = naive(np.array(margins), masks.numpy())
            logits = method(query[None], support[None], masks[None]).logits
            logits = logits + torch.tensor([threshold / 2, -threshold / 2])[:, None, None]
            views.append(resize(logits, (SIZE, SIZE)).flip(-1) if mirrored else logits)
        expected.append(torch.cat([resize(view, (SIZE, SIZE)) for view in views]).mean(0))
    found = resize(Predictor(method, flip=flip, leave_one_out=True)(episode), (SIZE, SIZE))
    torch.testing.assert_close(found, torch.stack(expected), atol=2e-4, rtol=0)
    assert not torch.allclose(found, resize(Predictor(method, flip=flip)(episode), (SIZE, SIZE)), atol=1e-2)


@torch.no_grad()
def test_two_supports_choose_nothing() -> None:
    method, episode = baseline(), drawn()
    few = Episode(*episode[:1], *(x[:, :2] for x in episode[1:3]), *episode[3:8], episode.support_id[:, :2])
    assert torch.equal(Predictor(method, leave_one_out=True)(few), Predictor(method)(few))


def test_a_fit_keeps_its_threshold(tmp_path: Path) -> None:
    source = Synthetic(size=96)
    names = [f"val-03-000{i}" for i in range(4)]
    images, masks = [source.image(name) for name in names], [source.mask(name, [3]) for name in names]

    def fitted(chosen: bool) -> Segmenter:
        segmenter = Segmenter(density_ratio(), 96, "cpu", leave_one_out=chosen)
        return segmenter.fit("object", images[:3], masks[:3])

    fitted(True).save_support(tmp_path / "kept.safetensors")
    again = fitted(True).fresh().load_support(tmp_path / "kept.safetensors")
    found, expected, plain = (next(one.margins(images[3])) for one in (again, fitted(True), fitted(False)))
    assert torch.equal(found, expected) and not torch.allclose(found, plain, atol=1e-2)
    with pytest.raises(DataError, match="other settings"):
        fitted(False).load_support(tmp_path / "kept.safetensors")


@pytest.mark.parametrize("fusion", ["mean", "vote"])
def test_shots_that_predict_alone_are_refused(command: Command, fusion: str) -> None:
    with pytest.raises(ConfigError, match=f"leave_one_out=true with fusion={fusion}: .*give leave_one_out=false"):
        Predictor(baseline(), fusion=fusion, leave_one_out=True)
    done = command("mshnet-train", *TINY, "eval.leave_one_out=true", f"eval.fusion={fusion}")
    assert done.code == 2 and "Traceback" not in done.err and done.err.count("error: ") == 1
    assert f"eval.leave_one_out=true with eval.fusion={fusion}" in done.err and "eval.leave_one_out=false" in done.err
