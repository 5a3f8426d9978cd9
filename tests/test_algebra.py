"""The rewritten steps against the plain ones that they stand for."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from mshnet_pl.backbones.fused_conv_bn import convolve
from mshnet_pl.models.convolutions import convolve_projected, convolve_upsampled
from mshnet_pl.models.layers import JoinThen, UpsampleThen, resize


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


def test_convolution_of_projected_parts() -> None:
    convolution = nn.Conv2d(9, 5, 3, padding=1).double()
    first, last = nn.Conv2d(2, 4, 1).double(), nn.Conv2d(6, 2, 1).double()
    x, between, y = (random(2, c, 6, 7).requires_grad_() for c in (2, 3, 6))
    own = convolve_projected(convolution, [(x, first), (between, None), (y, last)])
    plain = convolution(torch.cat([first(x), between, last(y)], dim=1))
    torch.testing.assert_close(own, plain)
    parameters = [x, between, y, *(p for module in (convolution, first, last) for p in module.parameters())]
    torch.testing.assert_close(gradients(own, parameters), gradients(plain, parameters))


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
def test_folding_follows_the_weights() -> None:
    convolution, norm = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4)
    x = torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    norm(convolution(x))
    norm.eval()
    torch.testing.assert_close(convolve(convolution, norm, x), norm(convolution(x)))
    kept = norm.folded
    convolve(convolution, norm, x)
    assert norm.folded is kept
    convolution.load_state_dict({"weight": -2 * convolution.weight})
    torch.testing.assert_close(convolve(convolution, norm, x), norm(convolution(x)))
    norm.running_mean += 1
    torch.testing.assert_close(convolve(convolution, norm, x), norm(convolution(x)))
    convolution, norm = convolution.double(), norm.double()
    torch.testing.assert_close(convolve(convolution, norm, x.double()), norm(convolution(x.double())))
    with torch.autocast("cpu", torch.bfloat16):
        folded = convolve(convolution.float(), norm.float(), x)
        assert folded.dtype == torch.bfloat16
        torch.testing.assert_close(folded, norm(convolution(x)).bfloat16(), atol=0.05, rtol=0.02)
    assert not any("folded" in name for name in norm.state_dict())
