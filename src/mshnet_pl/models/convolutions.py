"""Two exact rewritings of 3 x 3 convolutions: the same results up to rounding, for less work."""

from collections.abc import Sequence
from typing import TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, pad

from mshnet_pl.utils.weight_cache import WeightCache, computing_dtype

_Composed = tuple[Tensor, Tensor | None]
"""Of a part: its convolution, and the response to its projection's bias."""

_taps, _composed = WeightCache[Tensor](), WeightCache[list[_Composed]]()


def convolve_upsampled(
    convolution: nn.Module, x: Float[Tensor, "n c h w"], size: Sequence[int]
) -> Float[Tensor, "n c2 h2 w2"]:
    """A 3 x 3 convolution, with padding 1, of ``x`` upsampled bilinearly to ``size``, computed on the grid of ``x``.

    A 3 x 3 convolution is a sum of nine shifted 1 x 1 convolutions, and a 1 x 1 convolution commutes with interpolation:
    the products are taken before the grid grows. Saves most of the work on a CPU where the grid grows fourfold; elsewhere,
    and for a ``convolution`` of another kind, it is done as it is written.
    """
    height, width = size
    batch, _, h, w = x.shape
    if not _plain(convolution) or x.device.type != "cpu" or height * width < 2 * h * w:
        convolved: Tensor = convolution(interpolate(x, (height, width), mode="bilinear", align_corners=True))
        return convolved
    channels = convolution.out_channels
    taps = conv2d(x, _of_taps(convolution, x))  # (B, kx ky c, h, w)
    rows = taps.permute(0, 2, 3, 1).reshape(batch, h, w * 3, 3 * channels)  # (B, h, w kx, ky c)
    wide = _shifted(w, width, x) @ rows  # (B, h, W, ky c)
    columns = wide.unflatten(3, (3, channels)).transpose(2, 3).reshape(batch, h * 3, width * channels)  # (B, h ky, W c)
    full = (_shifted(h, height, x) @ columns).view(batch, height, width, channels).permute(0, 3, 1, 2)
    return full if convolution.bias is None else full + convolution.bias.to(full.dtype)[:, None, None]


def _of_taps(convolution: nn.Conv2d, x: Tensor) -> Float[Tensor, "taps c 1 1"]:
    """The nine 1 x 1 convolutions, column by column."""

    def make() -> Tensor:
        return convolution.weight.permute(3, 2, 0, 1).flatten(0, 2)[..., None, None]

    if torch.is_grad_enabled():
        return make()
    dtype = computing_dtype(x, convolution.weight)
    return _taps.get(convolution, dtype, (convolution.weight,), lambda: make().to(dtype))


def _plain(convolution: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether the rewritings hold: one 3 x 3 convolution, and no graph of unknown sizes is recorded."""
    if torch.compiler.is_compiling() or not isinstance(convolution, nn.Conv2d):
        return False
    return convolution.kernel_size == (3, 3) and convolution.padding == (1, 1) and convolution.groups == 1


def _shifted(length: int, target: int, like: Tensor) -> Float[Tensor, "target taps"]:
    """Linear interpolation of a line of ``length`` to ``target`` points at shifts -1, 0, 1, with zeros outside.

    Returns:
        (target, length 3): columns are points of the line, and of each the three shifts.
    """
    identity = torch.eye(length, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)
    weights = pad(interpolate(identity[None], target, mode="linear", align_corners=True)[0].T, (0, 0, 1, 1))
    return torch.stack([weights[shift : shift + target] for shift in range(3)], dim=2).flatten(1).to(like.dtype)


def convolve_projected(
    convolution: nn.Module, parts: Sequence[tuple[Float[Tensor, "n _ h w"], nn.Module | None]]
) -> Float[Tensor, "n c2 h w"]:
    """``convolution`` over the concatenation of ``project(x)`` of every part, without building it.

    A 1 x 1 convolution (``project``; None for a part taken as it is) and the convolution after it are one convolution
    on fewer channels; the projection's bias, which the padding does not see, comes as the response to a plane of ones.
    """
    if not _plain(convolution):
        joined: Tensor = convolution(torch.cat([x if project is None else project(x) for x, project in parts], dim=1))
        return joined
    total = None
    for (x, _), (weight, of_bias) in zip(parts, _composed_of(convolution, parts), strict=True):
        response = conv2d(x, weight, convolution.bias if total is None else None, padding=convolution.padding)
        if of_bias is not None:
            response = response + conv2d(x.new_ones(1, 1, *x.shape[2:]), of_bias, padding=convolution.padding)
        total = response if total is None else total + response
    assert total is not None
    return total


def _composed_of(convolution: nn.Conv2d, parts: Sequence[tuple[Tensor, nn.Module | None]]) -> Sequence[_Composed]:
    """A part's own convolution; without a graph they are computed once."""
    projections = [project for _, project in parts]

    def make() -> list[_Composed]:
        widths = [x.shape[1] if project is None else _out_channels(project) for x, project in parts]
        slices = convolution.weight.split(widths, dim=1)
        return [_compose(weight, project) for weight, project in zip(slices, projections, strict=True)]

    if torch.is_grad_enabled():
        return make()
    dtype = computing_dtype(parts[0][0], convolution.weight)

    def frozen() -> list[_Composed]:
        with torch.autocast(convolution.weight.device.type, enabled=False):
            return [(weight.to(dtype), None if bias is None else bias.to(dtype)) for weight, bias in make()]

    weights = [convolution.weight, *(p for project in projections if project for p in project.parameters())]
    return _composed.get(convolution, dtype, weights, frozen)


def _compose(weight: Tensor, project: nn.Module | None) -> _Composed:
    """Weights (c2, c, 3, 3) after the projection's, and (c2, 1, 3, 3) for its bias."""
    if project is None:
        return weight, None
    assert isinstance(project, nn.Conv2d) and project.bias is not None
    composed = conv2d(weight, project.weight.transpose(0, 1))  # kernels are pictures of 3 x 3
    return composed, (weight * project.bias[:, None, None]).sum(1, keepdim=True)


def _out_channels(project: nn.Module) -> int:
    assert isinstance(project, nn.Conv2d)
    return project.out_channels
