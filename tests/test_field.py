"""The field's methods beside MSHNet against loops."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mshnet_pl.backbones.base import AbstractBackbone
from mshnet_pl.backbones.efficientnet import EfficientNetLite0
from mshnet_pl.backbones.resnet import ResNet
from mshnet_pl.backbones.vgg import VGG16
from mshnet_pl.models.asgnet.model import ASGNet
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.models.cyctr.model import CyCTR
from mshnet_pl.models.fwb.model import FWB
from mshnet_pl.models.hsnet import squeeze
from mshnet_pl.models.hsnet.model import HSNet, vote
from mshnet_pl.models.hsnet.squeeze import CentrePivotConv4d
from mshnet_pl.models.mshnet.lite import MSHNetLite
from mshnet_pl.models.panet.model import PANet, alignment_loss
from mshnet_pl.models.pfenet.model import PFENet
from mshnet_pl.models.ppnet.model import PPNet
from mshnet_pl.models.prior import prior_mask
from mshnet_pl.models.rpmm.model import RPMM
from mshnet_pl.similarity.cosine import CosineSimilarity
from mshnet_pl.similarity.prototype import PrototypeSimilarity
from mshnet_pl.training.schedules import every_steps, polynomial

SIMILARITIES = {"cosine": CosineSimilarity, "prototype": PrototypeSimilarity}


def lite(backbone: AbstractBackbone) -> MSHNetLite:
    return MSHNetLite(backbone, SIMILARITIES, width=8)


METHODS = {
    "hsnet": HSNet, "panet": PANet, "pfenet": lambda b: PFENet(b, width=8), "lite": lite, "fwb": FWB, "ppnet": PPNet,
    "rpmm": lambda b: RPMM(b, width=8), "asgnet": lambda b: ASGNet(b, width=8, area=8),
    "cyctr": lambda b: CyCTR(b, width=8),
}  # fmt: skip


def make(name: str) -> AbstractMethod:
    torch.manual_seed(0)
    method: AbstractMethod = METHODS[name](EfficientNetLite0("random")).double()  # type: ignore[operator]
    return method


def episode(batch: int, shots: int, size: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(batch, shots + 1, 3, size, size, generator=generator, dtype=torch.float64)
    masks = torch.zeros(batch, shots, size, size, dtype=torch.float64)
    masks[..., size // 6 :, : size // 2] = 1
    return images[:, 0], images[:, 1:], masks


def test_parameters() -> None:
    frozen = ResNet(50, "random")
    assert HSNet(frozen).learnable_parameters() == 2_573_794
    assert PFENet(frozen).learnable_parameters() == pytest.approx(10.8e6, rel=0.01)
    assert MSHNetLite(frozen, SIMILARITIES).learnable_parameters() == 2_444_664
    assert PANet(frozen).learnable_parameters() == 0
    assert PANet(VGG16("random", trainable=True)).learnable_parameters() == 14_714_688


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 4)])
def test_centre_pivot_convolution(kernel: int, stride: int) -> None:
    """Against a whole 4D kernel with zeros, position by position."""
    torch.manual_seed(0)
    conv = CentrePivotConv4d(2, 3, kernel, stride).double()
    x = torch.randn(2, 2, 3, 4, 6, 5, dtype=torch.float64)
    middle = kernel // 2
    whole = torch.zeros(3, 2, *[kernel] * 4, dtype=torch.float64)
    whole[..., middle, middle] += conv.over_query.weight.detach()
    whole[:, :, middle, middle] += conv.over_support.weight.detach()
    padded = nn.functional.pad(x, [middle] * 8)
    out = conv(x).detach()
    assert out.shape == (2, 3, 3, 4, -(-6 // stride), -(-5 // stride))
    bias = (conv.over_query.bias + conv.over_support.bias).detach()
    for b, c, i, j, k, m in np.ndindex(*out.shape):
        u, v = k * stride, m * stride
        window = padded[b, :, i : i + kernel, j : j + kernel, u : u + kernel, v : v + kernel]
        assert out[b, c, i, j, k, m].item() == pytest.approx(((window * whole[c]).sum() + bias[c]).item(), abs=1e-10)


def test_hsnet_correlates_a_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    method = make("hsnet").eval()
    with torch.no_grad():
        whole = method(*episode(2, 1)).logits
        monkeypatch.setattr(squeeze, "_MAX_CORRELATIONS", 1)
        torch.testing.assert_close(method(*episode(2, 1)).logits, whole, atol=1e-10, rtol=1e-10)


def test_hsnet_correlates_masked_features() -> None:
    """Cosines pixel by pixel, read off a first convolution that passes them on."""
    block = squeeze.SqueezingBlock(2, [(3, 1), (3, 2), (3, 2)]).double()
    for parameter in block.first.parameters():
        nn.init.zeros_(parameter)
    for layer in range(2):
        block.first.over_support.weight.data[layer, layer, 1, 1] = 1
    block.rest = nn.Sequential()
    method = make("hsnet")
    features = tuple(torch.randn(1, 1, 2, 5, n, n, dtype=torch.float64) for n in (4, 3, 2))
    mask = (torch.rand(1, 1, 4, 4, dtype=torch.float64) > 0.5).double()
    support = method.encode(features, mask)["block2"][0][:, 0]
    query = torch.randn(1, 2, 5, 3, 4, dtype=torch.float64)
    unit = query / (query.norm(dim=2, keepdim=True) + 1e-5)
    found = block(unit, support)
    for layer, i, j, k, m in np.ndindex(2, 3, 4, 4, 4):
        q, s = query[0, layer, :, i, j], features[0][0, 0, layer, :, k, m] * mask[0, 0, k, m]
        cosine = (q @ s / ((q.norm() + 1e-5) * (s.norm() + 1e-5))).clamp(min=0)
        assert found[0, layer, i, j, k, m].item() == pytest.approx(cosine.item(), abs=1e-10)


def test_vote_equals_a_count() -> None:
    logits = torch.randn(4, 5, 2, 6, 7, generator=torch.Generator().manual_seed(3))
    logits[1, :, 1] -= 10  # no vote at all
    logits[2, :3, 1] -= 10  # at most two votes
    decided = vote(logits).argmax(1)
    for b in range(4):
        counts = [[sum(bool(s[1, i, j] > s[0, i, j]) for s in logits[b]) for j in range(7)] for i in range(6)]
        most = max(1, *(n for row in counts for n in row))
        assert decided[b].tolist() == [[int(n / most >= 0.5) for n in row] for row in counts]
    assert not decided[1].any() and (vote(logits)[:, 0] != vote(logits)[:, 1]).all()


def test_hsnet_votes_at_the_supports_resolution() -> None:
    method = make("hsnet").eval()
    query, support, mask = episode(1, 3)
    with torch.no_grad():
        alone = [method(query, support[:, k : k + 1], mask[:, k : k + 1]).logits for k in range(3)]
        together = method(query, support, mask).logits
        resized = [interpolate(one, (64, 64), mode="bilinear", align_corners=True) for one in alone]
        assert torch.equal(together, vote(torch.stack(resized, dim=1)))
        method.fusion = "mean"
        torch.testing.assert_close(method(query, support, mask).logits, torch.stack(alone).mean(0))
    with pytest.raises(ValueError, match=r"fusion=most"):
        HSNet(EfficientNetLite0("random"), "most")


def test_prior_equals_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.rand(2, 5, 3, 4, generator=generator, dtype=torch.float64)
    support = torch.rand(2, 2, 5, 4, 3, generator=generator, dtype=torch.float64)
    support = support * (torch.rand(2, 2, 1, 4, 3, generator=generator) > 0.4)
    support[1, 1] = 0
    found = prior_mask(query, support)
    for b in range(2):
        shots = []
        for k in range(2):
            largest = np.zeros((3, 4))
            for i, j in np.ndindex(3, 4):
                q = query[b, :, i, j]
                pixels = [support[b, k, :, m, n] for m, n in np.ndindex(4, 3)]
                largest[i, j] = max(float(q @ s / (q.norm() * s.norm() + 1e-7)) for s in pixels)
            shots.append((largest - largest.min()) / (largest.max() - largest.min() + 1e-7))
        np.testing.assert_allclose(found[b, 0].numpy(), np.mean(shots, axis=0), atol=1e-10)


def test_panet_equals_loops() -> None:
    """Prototypes and the alignment loss as published: features upsampled to the mask, then averaged."""
    generator = torch.Generator().manual_seed(0)
    support = torch.randn(3, 2, 5, 4, 3, generator=generator, dtype=torch.float64)
    mask = (torch.rand(3, 2, 13, 11, generator=generator) > 0.6).double()
    mask[1, 1] = 0
    method = PANet(EfficientNetLite0("random")).double()
    prototypes = method.encode((support[:, :, None],) * 3, mask)["prototypes"][0]
    for b in range(3):
        for region in range(2):
            means = []
            for k in range(2):
                large = interpolate(support[b, k][None], (13, 11), mode="bilinear", align_corners=False)[0]
                chosen = (mask[b, k] == region).double()
                means.append((large * chosen).sum((1, 2)) / (chosen.sum() + 1e-5))
            torch.testing.assert_close(prototypes[b, region], sum(means) / 2)

    query = torch.randn(3, 5, 4, 3, generator=generator, dtype=torch.float64)
    logits = torch.randn(3, 2, 4, 3, generator=generator, dtype=torch.float64)
    logits[2, 1] -= 100  # nothing is predicted: no loss
    total = 0.0
    for b, k in np.ndindex(3, 2):
        labels = logits[b].argmax(0)
        if b == 2:
            continue
        of_query = [query[b][:, labels == c].sum(1) / ((labels == c).sum() + 1e-5) for c in range(2)]
        cosines = torch.zeros(1, 2, 4, 3, dtype=torch.float64)
        for c, i, j in np.ndindex(2, 4, 3):
            s = support[b, k, :, i, j]
            cosines[0, c, i, j] = 20 * (s @ of_query[c]) / (s.norm() * of_query[c].norm())
        predicted = interpolate(cosines, (13, 11), mode="bilinear", align_corners=False)[0].softmax(0)
        pixels = [-predicted[int(mask[b, k, i, j]), i, j].log().item() for i, j in np.ndindex(13, 11)]
        total += float(np.mean(pixels))
    assert alignment_loss(query, logits, support, mask).item() == pytest.approx(total / 6, rel=1e-5)


def test_a_trainable_backbone_learns_with_the_method() -> None:
    method = PANet(EfficientNetLite0("random", trainable=True)).double().train()
    assert not any(module.training for module in method.backbone.modules())
    before = {name: value.clone() for name, value in method.backbone.named_buffers()}
    prediction = method(*episode(2, 2))
    weight, alignment = prediction.losses["alignment"]
    (prediction.logits[:, 1].mean() + weight * alignment).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())
    assert all(torch.equal(before[name], value) for name, value in method.backbone.named_buffers())
    assert not method.eval()(*episode(1, 1)).losses
    with torch.no_grad():
        assert not method.backbone(episode(1, 1)[0])[0].requires_grad
    with pytest.raises(ValueError, match=r"block=5"):
        PANet(EfficientNetLite0("random"), block=5)


@pytest.mark.one_in(5)
@pytest.mark.parametrize("name", METHODS)
def test_any_size_any_shots_and_rows_alone(name: str) -> None:
    method = make(name).eval()
    with torch.no_grad():
        for size, shots in ((64, 1), (97, 3)):
            query, support, mask = episode(2, shots, size)
            together = method(query, support, mask)
            alone = [method(query[i : i + 1], support[i : i + 1], mask[i : i + 1]).logits for i in range(2)]
            torch.testing.assert_close(together.logits, torch.cat(alone))
            assert together.logits.isfinite().all() and not together.inner and not together.losses
            _, of_support = method.features(query, support)
            code = method.encode(tuple(f[:1] for f in of_support), mask[:1])  # one support for all queries
            served = method.decode(method.backbone(query), code).logits
            torch.testing.assert_close(served[1:], method(query[1:], support[:1], mask[:1]).logits)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("training", [False, True])
def test_an_empty_mask_gives_no_nan(name: str, training: bool) -> None:
    method = make(name).train(training)
    query, support, mask = episode(2, 2)
    prediction = method(query, support, mask * 0)
    values = [prediction.logits, *prediction.inner.values(), *(value for _, value in prediction.losses.values())]
    assert all(value.isfinite().all() for value in values)


def test_vgg_grids_of_unequal_rounding() -> None:
    method = HSNet(VGG16("random")).eval()
    query, support, mask = (part.float() for part in episode(1, 1, 280))  # grids 35, 17, 8: supports end on 2, 2 and 1
    with torch.no_grad():
        assert method(query, support, mask).logits.shape == (1, 2, 70, 70)


def test_lite_separates_what_mshnet_convolves() -> None:
    method = make("lite")
    wide = [m for m in method.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) and m.groups == 1]
    backbone = {id(m) for m in method.backbone.modules()}
    assert all(m.out_channels == 2 for m in wide if id(m) not in backbone)
    prediction = method.train()(*episode(2, 2))
    assert [*prediction.inner] == ["block4", "block3", "block2"]
    sum((x.sum() for x in prediction.inner.values()), prediction.logits.sum()).backward()
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)


def test_schedules() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    steps = [every_steps(optimizer, 30, 5, steps=10, factor=0.1).lr_lambdas[0](n) for n in (0, 9, 10, 25)]
    np.testing.assert_allclose(steps, [1, 1, 0.1, 0.01])
    found = [polynomial(optimizer, 30, 5).lr_lambdas[0](n) for n in (0, 12, 30, 31)]
    np.testing.assert_allclose(found, [1, (18 / 30) ** 0.9, 0, 0])
