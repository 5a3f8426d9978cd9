"""The rewritten steps against the plain ones that they stand for."""

import pickle
from collections.abc import Sequence
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from mshnet_pl.backbones import fused_conv_bn
from mshnet_pl.backbones.fused_conv_bn import convolve
from mshnet_pl.models import convolutions
from mshnet_pl.models.convolutions import convolve_projected, convolve_upsampled
from mshnet_pl.models.layers import JoinThen, UpsampleThen, resize
from mshnet_pl.models.mshnet.conv_norm_relu import cbr
from mshnet_pl.utils.relu import relu

BF16 = {"atol": 0.05, "rtol": 0.02}


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def gradients(output: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad((output * random(*output.shape)).sum(), inputs))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [(10, 14), (13, 8), (5, 7), (6, 7), (5, 30)])
def test_convolution_of_an_upsampled_map(size: tuple[int, int], bias: bool) -> None:
    convolution = nn.Conv2d(3, 4, 3, padding=1, bias=bias).double()
    x = random(2, 3, 5, 7).requires_grad_()
    own, plain = convolve_upsampled(convolution, x, size), convolution(resize(x, size))
    torch.testing.assert_close(own, plain)
    parameters = [x, *convolution.parameters()]
    torch.testing.assert_close(gradients(own, parameters), gradients(plain, parameters))


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("grid", [(6, 7), (3, 2), (1, 2), (1, 1)])
def test_convolution_of_projected_parts(grid: tuple[int, int], memory: torch.memory_format) -> None:
    convolution = nn.Conv2d(9, 5, 3, padding=1).double().to(memory_format=memory)
    first, last = nn.Conv2d(2, 4, 1).double(), nn.Conv2d(6, 2, 1).double()
    x, between, y = (random(2, c, *grid).requires_grad_() for c in (2, 3, 6))
    own = convolve_projected(convolution, [(x, first), (between, None), (y, last)])
    plain = convolution(torch.cat([first(x), between, last(y)], dim=1))
    torch.testing.assert_close(own, plain)
    parameters = [x, between, y, *(p for module in (convolution, first, last) for p in module.parameters())]
    torch.testing.assert_close(gradients(own, parameters), gradients(plain, parameters))


@pytest.mark.parametrize("inplace", [False, True])
def test_relu_of_integers(inplace: bool) -> None:
    """Every bfloat16 but NaN, as PyTorch has it, and its gradient."""
    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16)
    x = every[~every.isnan()].view(2, -1, 7).transpose(1, 2)
    with torch.no_grad():
        assert torch.equal(relu(x.clone(), inplace), x.relu())
    results = []
    for one in (relu, lambda x, _: x.relu()):
        leaf = x.clone().requires_grad_()
        y = one(leaf * 1, inplace)
        results.append((y, *torch.autograd.grad(y, leaf, torch.linspace(-1, 1, y.numel()).view_as(y).bfloat16())))
    torch.testing.assert_close(*results, atol=0, rtol=0)


@torch.no_grad()
def test_named_layers_are_what_they_say() -> None:
    """Also where the first layer is another one than a plain convolution, as in the light network."""
    project = nn.Conv2d(2, 4, 1).double()
    x, y = random(2, 2, 6, 7), random(2, 3, 6, 7)
    for first in (nn.Conv2d(7, 5, 3, padding=1), nn.Sequential(nn.Conv2d(7, 7, 3, padding=1, groups=7), nn.Conv2d(7, 5, 1))):
        layers = first.double(), nn.ReLU(), nn.Conv2d(5, 2, 1).double()
        plain = nn.Sequential(*layers)
        joined = torch.cat([project(x), y], dim=1)
        torch.testing.assert_close(JoinThen(*layers)([(x, project), (y, None)]), plain(joined))
        torch.testing.assert_close(UpsampleThen(*layers)(joined, (12, 15)), plain(resize(joined, (12, 15))))
        assert [*JoinThen(*layers).state_dict()] == [*UpsampleThen(*layers).state_dict()] == [*plain.state_dict()]


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_folding_follows_the_weights(dtype: torch.dtype) -> None:
    convolution, norm = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4)
    x = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    norm(convolution(x))
    norm.eval()

    def check(
        convolution: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor, add: Tensor | None = None, relu: bool = False
    ) -> None:
        plain = norm(convolution(x)) + (0 if add is None else add)
        rounded = dtype == torch.bfloat16 and x.dtype != torch.float64
        with torch.autocast("cpu", dtype, enabled=rounded):
            own = convolve(convolution, norm, x, None if add is None else add.clone(), relu)
        assert own.dtype == (dtype if rounded else x.dtype)
        tolerance = BF16 if rounded else {"atol": 1e-5, "rtol": 1e-5}
        torch.testing.assert_close(own.to(x.dtype), plain.relu() if relu else plain, **tolerance)

    check(convolution, norm, x)
    kept = fused_conv_bn._folded._kept[norm]
    check(convolution, norm, x[:1, :, :7], relu=True)
    for with_relu in (False, True):
        check(convolution, norm, x, random(2, 4, 5, 5).float(), with_relu)
    assert fused_conv_bn._folded._kept[norm] is kept
    check(convolution, pickle.loads(pickle.dumps(norm)), x)
    convolution.load_state_dict({"weight": -2 * convolution.weight})
    check(convolution, norm, x)
    norm.running_mean += 1
    check(convolution, norm, x)
    check(deepcopy(convolution).double(), deepcopy(norm).double(), x.double())
    assert [*norm.state_dict()] == [*nn.BatchNorm2d(4).state_dict()]


@torch.no_grad()
def test_weights_are_packed_for_every_shape() -> None:
    convolution, norm = nn.Conv2d(64, 80, 1), nn.BatchNorm2d(80).eval()
    for side in (3, 9, 17, 33, 5, 65, 3):
        x = random(1, 64, side, side).float()
        with torch.autocast("cpu", torch.bfloat16):
            own = convolve(convolution, norm, x)
        torch.testing.assert_close(own.float(), norm(convolution(x)), **BF16)
    packed = fused_conv_bn._folded._kept[norm][1].packed
    assert packed is None or len(packed) <= fused_conv_bn._MOST_SHAPES


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_composed_weights_follow_the_weights(dtype: torch.dtype) -> None:
    convolution, project = nn.Conv2d(7, 5, 3, padding=1), nn.Conv2d(2, 4, 1)
    x, y = random(2, 2, 6, 7).float(), random(2, 3, 6, 7).float()

    def check(convolution: nn.Conv2d, project: nn.Conv2d, *maps: Tensor) -> None:
        x, y = maps
        joined = torch.cat([project(x), y], dim=1)
        rounded = dtype == torch.bfloat16 and x.dtype != torch.float64
        with torch.autocast("cpu", dtype, enabled=rounded):
            own = (
                convolve_projected(convolution, [(x, project), (y, None)]),
                convolve_upsampled(convolution, joined, (13, 15)),
            )
        tolerance = BF16 if rounded else {"atol": 1e-5, "rtol": 1e-5}
        for found, plain in zip(own, (convolution(joined), convolution(resize(joined, (13, 15)))), strict=True):
            torch.testing.assert_close(found.to(x.dtype), plain, **tolerance)

    check(convolution, project, x, y)
    kept = convolutions._composed._kept[convolution], convolutions._taps._kept[convolution]
    check(convolution, project, x[:1, :, :5], y[:1, :, :5])
    assert kept == (convolutions._composed._kept[convolution], convolutions._taps._kept[convolution])
    project.bias += 1
    check(convolution, project, x, y)
    project.weight *= -2
    check(convolution, project, x, y)
    convolution.load_state_dict({name: 2 * value for name, value in convolution.state_dict().items()})
    check(convolution, project, x, y)
    with torch.inference_mode():
        check(deepcopy(convolution), deepcopy(project), x, y)
    check(convolution.double(), project.double(), x.double(), y.double())


@torch.no_grad()
def test_a_head_in_bf16() -> None:
    """Convolution, norm and ReLU in one operator against the three of them, whatever lies where in memory."""
    torch.manual_seed(0)
    layers = cbr(6, 8, 3, dilation=2)
    for x in (torch.randn(2, 6, 9, 7), torch.randn(2, 9, 7, 6).permute(0, 3, 1, 2)):
        layers.train()(x)
        layers.eval()
        plain = nn.Sequential(*layers)(x)
        with torch.autocast("cpu", torch.bfloat16):
            own = layers(x)
        assert own.dtype == torch.bfloat16
        torch.testing.assert_close(own.float(), plain, **BF16)
