"""Similarities against loops over pixels."""

import numpy as np
import pytest
import torch
from torch import Tensor

from mshnet_pl.similarity import pixels
from mshnet_pl.similarity.contrast import ContrastSimilarity
from mshnet_pl.similarity.cosine import CosineSimilarity
from mshnet_pl.similarity.masks import ObjectMask, object_masks
from mshnet_pl.similarity.prototype import PrototypeSimilarity

BATCH, SHOTS, LAYERS, CHANNELS, HEIGHT, WIDTH = 2, 3, 2, 5, 4, 6


@pytest.fixture
def features() -> tuple[Tensor, Tensor, ObjectMask]:
    rng = torch.Generator().manual_seed(0)
    query = torch.randn(BATCH, LAYERS, CHANNELS, HEIGHT, WIDTH, generator=rng, dtype=torch.float64)
    support = torch.randn(BATCH, SHOTS, LAYERS, CHANNELS, HEIGHT, WIDTH, generator=rng, dtype=torch.float64)
    weight = torch.rand(BATCH, SHOTS, HEIGHT, WIDTH, generator=rng, dtype=torch.float64)
    weight = weight * (weight > torch.tensor([[0.2, 0.5, 0.95], [0.8, 1.0, 0.0]])[..., None, None])  # one is empty
    return query, support, ObjectMask(weight, (weight > 0).sum((2, 3)).double())


def naive_cosine(query: np.ndarray, support: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(L, d, h, w) and (h, w) to (L, h, w), eq. 5 pixel by pixel."""
    out = np.zeros(query.shape[:1] + query.shape[2:])
    chosen = np.argwhere(weight > 0)
    for layer, y, x in np.ndindex(*out.shape):
        q = query[layer, :, y, x]
        for i, j in chosen:
            s = support[layer, :, i, j] * weight[i, j]
            value = (q / (np.sqrt((q**2).sum()) + 1e-5)) @ (s / (np.sqrt((s**2).sum()) + 1e-5))
            out[layer, y, x] += max(value, 0) / len(chosen)
    return out


def prepared(features: Tensor, centred: bool) -> np.ndarray:
    """(L, d, h, w) features, channel by channel less its mean over the picture."""
    out = features.numpy().copy()
    for layer, channel in np.ndindex(*out.shape[:2]):
        out[layer, channel] -= out[layer, channel].mean() if centred else 0
    return out


@pytest.mark.parametrize("centred", [False, True])
def test_cosine(features: tuple[Tensor, Tensor, ObjectMask], monkeypatch: pytest.MonkeyPatch, centred: bool) -> None:
    query, support, objects = features
    similarity = CosineSimilarity(CHANNELS, centred)
    maps = similarity.compare(query, similarity.encode(support, objects))
    assert maps.shape == (BATCH, SHOTS, LAYERS, HEIGHT, WIDTH)
    for b, k in np.ndindex(BATCH, SHOTS):
        expected = naive_cosine(prepared(query[b], centred), prepared(support[b, k], centred), objects.weight[b, k].numpy())
        np.testing.assert_allclose(maps[b, k].numpy(), expected, atol=1e-12)
    assert (maps[1, 1] == 0).all()  # the empty mask
    monkeypatch.setattr(pixels, "_MAX_COSINES", 3 * BATCH * LAYERS * HEIGHT * WIDTH)
    torch.testing.assert_close(similarity.compare(query, similarity.encode(support, objects)), maps)


@pytest.mark.parametrize("centred", [False, True])
def test_contrast(features: tuple[Tensor, Tensor, ObjectMask], centred: bool) -> None:
    query, support, objects = features
    similarity = ContrastSimilarity(CHANNELS, centred)
    maps = similarity.compare(query, similarity.encode(support, objects))
    for b, k in np.ndindex(BATCH, SHOTS):
        weight = objects.weight[b, k].numpy()
        q, s = prepared(query[b], centred), prepared(support[b, k], centred)
        expected = naive_cosine(q, s, weight) - naive_cosine(q, s, (weight == 0) * 1.0)
        np.testing.assert_allclose(maps[b, k].numpy(), expected, atol=1e-12)


def test_prototype(features: tuple[Tensor, Tensor, ObjectMask]) -> None:
    query, support, objects = features
    similarity = PrototypeSimilarity(CHANNELS).double()
    maps = similarity.compare(query, similarity.encode(support, objects)).detach().numpy()
    w = similarity.weight.detach().flatten().numpy()
    for b, k, layer, y, x in np.ndindex(maps.shape):
        weight = objects.weight[b, k].numpy()
        chosen = np.argwhere(weight > 0)
        x_q = query[b, layer, :, y, x].numpy() if len(chosen) else np.zeros(CHANNELS)
        pixels = [support[b, k, layer, :, i, j].numpy() * weight[i, j] for i, j in chosen]
        x_p = np.mean(pixels, axis=0) if pixels else np.zeros(CHANNELS)
        expected = 1 / (1 + np.exp(-w @ np.concatenate([x_q, x_p])))
        assert maps[b, k, layer, y, x] == pytest.approx(expected, abs=1e-12)
    assert (maps[1, 1] == 0.5).all()  # the empty mask


def resize(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with aligned corners, pixel by pixel."""
    out = np.zeros((height, width))
    for y, x in np.ndindex(height, width):
        v = y * (mask.shape[0] - 1) / (height - 1)
        u = x * (mask.shape[1] - 1) / (width - 1)
        y0, x0 = min(int(v), mask.shape[0] - 2), min(int(u), mask.shape[1] - 2)
        a, b = v - y0, u - x0
        out[y, x] = (1 - a) * ((1 - b) * mask[y0, x0] + b * mask[y0, x0 + 1]) + a * (
            (1 - b) * mask[y0 + 1, x0] + b * mask[y0 + 1, x0 + 1]
        )
    return out


def test_object_masks() -> None:
    mask = torch.zeros(1, 1, 65, 65, dtype=torch.float64)
    mask[0, 0, 20:47, 11:33] = 1
    cascade = resize(mask[0, 0].numpy(), 18, 18)
    for found, size in zip(object_masks(mask, [(9, 9), (5, 5), (3, 3)]), (9, 5, 3), strict=True):
        cascade = resize(cascade, size, size)
        selected = cascade >= cascade[cascade > 0].mean()
        np.testing.assert_allclose(found.weight[0, 0].numpy(), cascade * selected, atol=1e-12)
        assert found.size.item() == selected.sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_full_mask_selects_every_pixel_and_an_empty_one_none(dtype: torch.dtype) -> None:
    mask = torch.stack([torch.ones(473, 473), torch.zeros(473, 473)])[None].to(dtype)
    for found, size in zip(object_masks(mask, [(60, 60), (30, 30), (15, 15)]), (60, 30, 15), strict=True):
        assert found.size.tolist() == [[size * size, 0]]
