"""What methods promise, and the switches of the ablations."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate

from mshnet_pl.backbones.efficientnet import EfficientNetLite0
from mshnet_pl.models import density_ratio
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.models.baselines import ContrastBaseline, PrototypeBaseline
from mshnet_pl.models.density_ratio import DensityRatio
from mshnet_pl.models.layers import directions
from mshnet_pl.models.mshnet.model import MSHNet
from mshnet_pl.models.ppnet.parts import region
from mshnet_pl.similarity.cosine import CosineSimilarity
from mshnet_pl.similarity.masks import object_masks
from mshnet_pl.similarity.prototype import PrototypeSimilarity

SIMILARITIES = {"cosine": CosineSimilarity, "prototype": PrototypeSimilarity}
BASELINES = (PrototypeBaseline, ContrastBaseline, DensityRatio)
WIDTH = 8


def network(**switches: object) -> MSHNet:
    torch.manual_seed(0)
    return MSHNet(EfficientNetLite0("random"), SIMILARITIES, width=WIDTH, **switches).double()  # type: ignore[arg-type]


def episode(batch: int, shots: int, size: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    masks = torch.zeros(batch, shots, size, size, dtype=torch.float64)
    masks[..., 10:, :40] = 1
    images = torch.randn(batch, shots + 1, 3, size, size, generator=generator, dtype=torch.float64)
    return images[:, 0], images[:, 1:], masks


@pytest.mark.parametrize("make", [network, *(lambda b=b: b(EfficientNetLite0("random")).double() for b in BASELINES)])
def test_a_support_that_was_encoded_once_serves_any_query(make: Callable[[], AbstractMethod]) -> None:
    method = make().eval()
    query, support, mask = episode(batch=3, shots=2)
    with torch.no_grad():
        _, of_support = method.features(query[:1], support[:1])
        code = method.encode(of_support, mask[:1])
        together = method.decode(method.backbone(query), code).logits
        alone = [method(query[i : i + 1], support[:1], mask[:1]).logits for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


def cbr(inside: int, outside: int, kernel: int) -> int:
    return inside * outside * kernel**2 + 3 * outside


FULL = network().learnable_parameters()
NARROW, WIDE = 2 * WIDTH, 4 * WIDTH
HEAD = NARROW * WIDTH * 9 + WIDTH * 2 * 9 + 2
GATE = 2 * NARROW * (NARROW // 4) + NARROW + NARROW // 4


@pytest.mark.parametrize(
    ("switches", "parameters"),
    [
        ({"channel_gate": False}, FULL - 3 * GATE),
        ({"deep_supervision": False}, FULL - 3 * HEAD),
        (
            {"atrous": False},
            FULL - 3 * (cbr(WIDTH, WIDTH, 1) + cbr(WIDTH, WIDTH, 3) + cbr(3 * WIDTH, WIDTH, 3)),
        ),
    ],
)
def test_a_switch_takes_its_part_away(switches: dict[str, object], parameters: int) -> None:
    method = network(**switches)
    assert method.learnable_parameters() == parameters
    prediction = method.train()(*episode(batch=2, shots=1))
    assert prediction.logits.shape == (2, 2, 16, 16)
    assert [*prediction.inner] == ([] if "deep_supervision" in switches else ["block4", "block3", "block2"])


def test_contrast_baseline_is_the_mean_contrast_of_the_two_deepest_blocks() -> None:
    method = ContrastBaseline(EfficientNetLite0("random"), min_contrast=0.03).double().eval()
    query, support, mask = episode(batch=2, shots=2)
    with torch.no_grad():
        of_query, of_support = method.features(query, support)
        logits = method.decode(of_query, method.encode(of_support, mask)).logits
    objects = object_masks(mask, [(f.shape[4], f.shape[5]) for f in of_support])
    for b in range(2):
        means = []
        for q, s, selected in [*zip(of_query, of_support, objects, strict=True)][1:]:
            found = []
            for layer in range(q.shape[1]):
                pixels = q[b, layer] - q[b, layer].mean((1, 2), keepdim=True)  # (d, h, w)
                for k in range(2):
                    shown = s[b, k, layer] - s[b, k, layer].mean((1, 2), keepdim=True)
                    inside = selected.weight[b, k] > 0
                    sides = [
                        sum(cosine_similarity(pixels, one[:, None, None], dim=0).relu() for one in shown[:, side].T)
                        / side.sum()
                        for side in (inside, ~inside)
                    ]
                    found.append(sides[0] - sides[1])
            means.append(torch.stack(found).mean(0))
        coarse = interpolate(means[1][None, None], means[0].shape, mode="bilinear", align_corners=True)[0, 0]
        margin = 20 * ((means[0] + coarse) / 2 - 0.03)
        torch.testing.assert_close(logits[b], torch.stack([-margin, margin]) / 2, rtol=1e-3, atol=1e-3)  # 1e-5 on norms
    assert method.learnable_parameters() == 0


def test_density_ratio_is_that_of_kernel_estimates_from_all_shots() -> None:
    backbone = EfficientNetLite0("random", last_stage=True)
    method = DensityRatio(backbone, blocks=3, temperature=0.1, min_ratio=3).double().eval()
    query, support, mask = episode(batch=2, shots=2)
    with torch.no_grad():
        of_query, of_support = method.features(query, support)
        logits = method.decode(of_query, method.encode(of_support, mask)).logits.numpy()
    share = mask.unflatten(2, (4, 16)).unflatten(4, (4, 16)).mean((3, 5)).flatten(2).numpy()  # on block 3's grid, 4 x 4
    for b in range(2):
        cosines = np.zeros((16, 2, 16))  # query pixel, shot, support pixel
        for q, s in [*zip(of_query, of_support, strict=True)][1:]:
            for layer, k in itertools.product(range(q.shape[1]), range(2)):
                maps = [
                    interpolate(x[None], (4, 4), mode="bilinear", align_corners=True) for x in (q[b, layer], s[b, k, layer])
                ]
                one, other = (x.flatten(2)[0].numpy() / np.linalg.norm(x.flatten(2)[0], axis=0) for x in maps)
                cosines[:, k] += one.T @ other / (3 * q.shape[1])
        kernels = np.exp(cosines / 0.1)
        inside, outside = ((kernels * w).sum((1, 2)) / w.sum() for w in (share[b], 1 - share[b]))
        margin = 2 * np.log(inside / outside / 3).reshape(4, 4)
        np.testing.assert_allclose(logits[b], np.stack([-margin, margin]) / 2, rtol=1e-2, atol=1e-2)  # 1e-5 on norms
    assert method.learnable_parameters() == 0


def test_density_ratio_counts_pixels_of_other_photos_as_rest() -> None:
    backbone = EfficientNetLite0("random")
    plain, method = (DensityRatio(backbone, photo_pixels=count).double() for count in (0, 100))
    query, support, mask = episode(batch=2, shots=2)
    torch.testing.assert_close(method(query, support, mask).logits, plain(query, support, mask).logits)  # none seen yet
    photos = episode(batch=1, shots=1)[0]
    with torch.no_grad():
        method.look_at([backbone(photos)], torch.Generator())
        assert int(method.photos.any(1).sum()) == 64  # all that there are
        of_query, of_support = method.features(query, support)
        logits = method.decode(of_query, method.encode(of_support, mask)).logits
        seen = (of_query, tuple(f.flatten(0, 1) for f in of_support), backbone(photos))
        q, s, p = (directions(f, 3).flatten(2).mT for f in seen)
    inside = mask.unflatten(2, (8, 8)).unflatten(4, (8, 8)).mean((3, 5)).flatten(1)
    kernels = (q @ s.unflatten(0, (2, 2)).flatten(1, 2).mT / 0.05).exp()
    of_object, of_rest = ((kernels * w[:, None]).sum(2) / w.sum(1)[:, None] for w in (inside, 1 - inside))
    of_photos = (q @ p.mT / 0.05).exp().mean(2)
    margin = 2 * (of_object / (2 / 2.3 * of_rest + 0.3 / 2.3 * of_photos) / 2).log().unflatten(1, (8, 8))
    torch.testing.assert_close(logits, torch.stack([-margin, margin], dim=1) / 2, rtol=0, atol=0.05)  # eight bits a number


@pytest.mark.parametrize(("value", "everywhere"), [(0, -1), (1, 1)])
def test_density_ratio_without_object_or_rest_is_of_one_kind(value: int, everywhere: int) -> None:
    query, support, mask = episode(batch=1, shots=2)
    logits = DensityRatio(EfficientNetLite0("random"))(
        query.float(), support.float(), torch.full_like(mask, value).float()
    ).logits
    assert ((logits[:, 1] - logits[:, 0]).sign() == everywhere).all()


def test_density_ratio_gains_nothing_from_the_same_support_twice_and_needs_no_room_for_all_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = DensityRatio(EfficientNetLite0("random")).double()
    query, support, mask = episode(batch=2, shots=2)
    expected = method(query, support, mask).logits
    torch.testing.assert_close(method(query, support.repeat(1, 2, 1, 1, 1), mask.repeat(1, 2, 1, 1)).logits, expected)
    monkeypatch.setattr(density_ratio, "_MAX_KERNELS", 64)
    torch.testing.assert_close(method(query, support, mask).logits, expected)


@pytest.mark.parametrize("argument", ["blocks=0", "blocks=4", "temperature=0", "min_ratio=-1", "photo_pixels=-1"])
def test_density_ratio_checks_its_arguments(argument: str) -> None:
    name, value = argument.split("=")
    with pytest.raises(ValueError, match=argument):
        DensityRatio(EfficientNetLite0("random"), **{name: int(value)})


@pytest.mark.parametrize("blocks", [[2], [3], [4], [2, 4], [3, 4]])
def test_only_the_chosen_blocks_matter(blocks: list[int]) -> None:
    method = network(blocks=blocks).eval()
    query, support, mask = episode(batch=1, shots=2)
    with torch.no_grad():
        of_query, of_support = method.features(query, support)
        code = method.encode(of_support, mask)
        logits = method.decode(of_query, code).logits
        assert logits.shape == (1, 2, 16, 16)
        for block in (2, 3, 4):
            changed = tuple(f * (1 + torch.randn_like(f) * (i == block - 2)) for i, f in enumerate(of_query))
            same = torch.equal(method.decode(changed, code).logits, logits)
            assert same == (block not in blocks)
    training = method.train()(query.expand(2, -1, -1, -1), support.expand(2, -1, -1, -1, -1), mask.expand(2, -1, -1, -1))
    assert [*training.inner] == [f"block{block}" for block in sorted(blocks, reverse=True)]
    sum(logits.sum() for logits in (training.logits, *training.inner.values())).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)


@pytest.mark.parametrize("blocks", [[], [1, 2], [2, 2]])
def test_refused_blocks(blocks: list[int]) -> None:
    with pytest.raises(ValueError, match="blocks="):
        network(blocks=blocks)


def test_ppnet_samples_few_pixels_as_if_it_upsampled() -> None:
    """Of a mask with 10 pixels or fewer on the coarse grid."""
    features = torch.randn(7, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.zeros(41, 33, dtype=torch.float64)
    mask[3:6, 30:33] = mask[40, 0] = 1
    whole = interpolate(features[None], (41, 33), mode="bilinear", align_corners=True)[0]
    torch.testing.assert_close(region(features, mask, 1, mask.shape), whole[:, mask > 0].T)
    assert not region(features, mask * 0, 1, mask.shape).any()
