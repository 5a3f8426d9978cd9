"""Two exact rewritings of 3 x 3 convolutions: the same results up to rounding, for less work."""

from collections.abc import Sequence
from typing import TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, linear, pad

from mshnet_pl.utils.weight_cache import WeightCache, computing_dtype

_Composed = tuple[list[Tensor], Tensor | None]
"""The convolution of every part, (c2, c, 3, 3), and that of the projections' biases, (c2, 3, 3)."""

_taps, _composed = WeightCache[Tensor](), WeightCache[_Composed]()


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
    rows = _products(x, _of_taps(convolution, x)).reshape(batch, h, w * 3, 3 * channels)  # (B, h, w kx, ky c)
    wide = _shifted(w, width, x) @ rows  # (B, h, W, ky c)
    columns = wide.unflatten(3, (3, channels)).transpose(2, 3).reshape(batch, h * 3, width * channels)  # (B, h ky, W c)
    full = (_shifted(h, height, x) @ columns).view(batch, height, width, channels).permute(0, 3, 1, 2)
    return full if convolution.bias is None else full + convolution.bias.to(full.dtype)[:, None, None]


def _of_taps(convolution: nn.Conv2d, x: Tensor) -> Float[Tensor, "taps c"]:
    """The nine 1 x 1 convolutions, column by column, in the dtype that is computed in."""
    dtype = computing_dtype(x, convolution.weight)

    def make() -> Tensor:
        return convolution.weight.to(dtype).permute(3, 2, 0, 1).flatten(0, 2)

    if torch.is_grad_enabled():
        return make()
    return _taps.get(convolution, dtype, (convolution.weight,), make)


def _products(x: Float[Tensor, "n c h w"], weight: Float[Tensor, "taps c"]) -> Float[Tensor, "n h w taps"]:
    """A 1 x 1 convolution, as a product of matrices in bf16, where that is quicker, above all backwards; else it is not."""
    if weight.dtype == torch.bfloat16:
        return linear(x.permute(0, 2, 3, 1), weight)
    return conv2d(x, weight[..., None, None]).permute(0, 2, 3, 1)


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
    on fewer channels; the projections' biases, which the padding does not see, come as the response to planes of ones.
    """
    if not _plain(convolution):
        joined: Tensor = convolution(torch.cat([x if project is None else project(x) for x, project in parts], dim=1))
        return joined
    weights, of_biases = _composed_of(convolution, parts)
    (first, _), *others = parts
    total = conv2d(first, weights[0], convolution.bias, padding=convolution.padding)
    for (x, _), weight in zip(others, weights[1:], strict=True):
        total = total + conv2d(x, weight, padding=convolution.padding)
    if of_biases is None:
        return total
    return (total.permute(0, 2, 3, 1) + _of_ones(of_biases, first.shape[2:])).permute(0, 3, 1, 2)


def _composed_of(convolution: nn.Conv2d, parts: Sequence[tuple[Tensor, nn.Module | None]]) -> _Composed:
    """The convolutions of the parts, in the dtype that is computed in; without a graph they are made once."""
    dtype = computing_dtype(parts[0][0], convolution.weight)
    projections = [project for _, project in parts]
    widths = [x.shape[1] if project is None else _projection(project).out_channels for x, project in parts]

    def make(dtype: torch.dtype) -> _Composed:
        slices = convolution.weight.permute(0, 2, 3, 1).to(dtype).split(widths, dim=3)  # (c2, 3, 3, c), as in memory
        weights, of_biases = [], []
        for weight, project in zip(slices, projections, strict=True):
            if project is not None:
                matrix, bias = _projection(project).weight[:, :, 0, 0], _projection(project).bias
                assert bias is not None
                of_biases.append(weight @ bias.to(dtype)[:, None])  # (c2, 3, 3, 1): a product with a vector is slow
                weight = weight @ matrix.to(dtype)
            weights.append(weight.permute(0, 3, 1, 2))
        return weights, torch.cat(of_biases, dim=3).sum(3) if of_biases else None

    if torch.is_grad_enabled():
        return make(dtype)

    def frozen() -> _Composed:
        with torch.autocast(convolution.weight.device.type, enabled=False):
            weights, of_biases = make(convolution.weight.dtype)
            return [weight.to(dtype) for weight in weights], None if of_biases is None else of_biases.to(dtype)

    originals = [convolution.weight, *(p for project in projections if project for p in project.parameters())]
    return _composed.get(convolution, dtype, originals, frozen)


def _of_ones(weight: Float[Tensor, "c 3 3"], grid: Sequence[int]) -> Float[Tensor, "h w c"]:
    """The response of a 3 x 3 convolution, with padding 1, to a plane of ones: at its edges some taps see the padding."""
    rows, columns = (_within(length, weight) for length in grid)
    return columns @ (rows @ weight.permute(1, 2, 0).flatten(1)).unflatten(1, (3, -1))  # (h, 3 c) to (h, w, c)


def _within(length: int, like: Tensor) -> Float[Tensor, "length 3"]:
    """1 where a tap lies in a line of that length, 0 where it lies in the padding."""
    return pad(like.new_ones(length), (1, 1)).unfold(0, length, 1).T


def _projection(project: nn.Module) -> nn.Conv2d:
    assert isinstance(project, nn.Conv2d)
    return project
