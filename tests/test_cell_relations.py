"""What the network that makes masks of marks sees, against loops over cells, and what it may not change."""

import math

import numpy as np
import torch

from mshnet_pl.data.io.marks import BACKGROUND, INSIDE, OBJECT, OPEN
from mshnet_pl.inference.cell_relations import COUNT, Appearance, Picture, Weights, shared_ratios
from mshnet_pl.inference.completion import complete

ROWS, COLUMNS, DEEPEST, SIDE = 5, 6, 3, 30
CELLS = [(row, column) for row in range(ROWS) for column in range(COLUMNS)]


def appearance(seed: int) -> Appearance:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.nn.functional.normalize(torch.randn(8, ROWS, COLUMNS, generator=generator), dim=0)
    return Appearance(maps, DEEPEST, torch.randn(3, SIDE, SIDE, generator=generator))


def weights(seed: int) -> Weights:
    share = torch.rand(len(CELLS), generator=torch.Generator().manual_seed(seed))
    return Weights(share, 1 - share)


def log_ratio(similar: np.ndarray, of: Weights) -> tuple[np.ndarray, np.ndarray]:
    """Log-densities of the object, and their log-ratios with the rest's."""
    densities = [similar @ part.double().numpy() / float(part.sum()) for part in of]
    return np.log(densities[0]), np.log(densities[0]) - np.log(densities[1])


def kernel(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(0)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    similar = np.exp(x @ x.T / 0.2)
    np.fill_diagonal(similar, 0)
    return similar


def test_densities_are_sums_over_cells() -> None:
    looks, of = appearance(0), weights(1)
    told = torch.full((SIDE, SIDE), OPEN, dtype=torch.uint8)
    told[6:12, 5:20] = OBJECT
    found = Picture(looks, told).relations(of).double().numpy().reshape(COUNT, -1)
    x = looks.directions.double().numpy()
    for place, features in enumerate((x, x[:, -DEEPEST:])):
        density, ratio = log_ratio(kernel(features), of)
        assert np.allclose(found[place], ratio, atol=1e-4)
        assert np.allclose(found[3 + place], density - density.max(), atol=1e-4)
    assert not found[5].any() and np.allclose(found[6], of.object, atol=1e-6)
    assert np.allclose(found[7], math.log(float(of.object.mean()) + 0.002), atol=1e-5)


def test_distances_and_depth_in_cells() -> None:
    told = torch.full((SIDE, SIDE), OPEN, dtype=torch.uint8)
    told[6:12, 5:20] = OBJECT  # the second row of cells, and its columns 1 to 3
    *_, near, _, extent, depth, _ = Picture(appearance(0), told).relations(weights(1)).flatten(1)
    marked = [(1, column) for column in (1, 2, 3)]
    expected = [min(_far(cell, other) for other in marked) for cell in CELLS]
    assert np.allclose(near, expected, atol=1e-6) and not depth.any()
    assert np.allclose(extent, math.log(2 / COLUMNS + 1 / 30), atol=1e-6)
    told = torch.full((SIDE, SIDE), BACKGROUND, dtype=torch.uint8)
    told[3:27, 3:27] = INSIDE
    *_, near, _, _, depth, relative = Picture(appearance(0), told).relations(weights(1))
    assert (near == 1).all() and depth.argmax() == relative.argmax() and 0 < relative.max() <= 1
    assert depth[0].max() < depth[2].max()


def _far(a: tuple[int, int], b: tuple[int, int]) -> float:
    return math.hypot(a[0] - b[0], a[1] - b[1]) / COLUMNS


def test_shots_are_compared_with_all_others() -> None:
    looks, of = [appearance(seed) for seed in range(3)], [weights(seed) for seed in range(3)]
    told = torch.full((SIDE, SIDE), OPEN, dtype=torch.uint8)
    told[6:12, 5:20] = OBJECT
    pictures = [Picture(one, told) for one in looks]
    found = shared_ratios(pictures, of)
    x = [one.directions.double().numpy() for one in looks]
    for place, other in enumerate([(1, 2), (0, 2), (0, 1)]):
        similar = np.exp((x[place] @ np.concatenate([x[i] for i in other]).T - 1) / 0.05)
        pooled = Weights(*(torch.cat([of[i][part] for i in other]) for part in range(2)))
        assert np.allclose(found[place], log_ratio(similar, pooled)[1], atol=1e-3)
    assert shared_ratios(pictures[:1], of[:1]) == [None]


def test_given_masks_stay_and_many_shots_are_taken() -> None:
    told = torch.full((12, 32, 32), OPEN, dtype=torch.uint8)
    told[:, 10:14, 12:20] = OBJECT
    told[5] = told[5] == OBJECT
    generator = torch.Generator().manual_seed(0)
    features = tuple(torch.rand(12, 1, 3, side, side, generator=generator) for side in (8, 4, 2))
    made = complete(features, torch.rand(12, 3, 32, 32, generator=generator), told)
    assert made.shape == told.shape and made[told == OBJECT].all() and torch.equal(made[5], told[5] == OBJECT)
