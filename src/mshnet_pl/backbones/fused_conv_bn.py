"""Convolution, BatchNorm, sum and ReLU in eval mode as one convolution."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mshnet_pl.utils.weight_cache import WeightCache, computing_dtype


class _Folded(NamedTuple):
    weight: Tensor
    bias: Tensor
    packed: dict[torch.Size, Tensor] | None
    """The weight as oneDNN wants it for an input's shape, which decides it; None where it takes the weight as it is."""


_MOST_SHAPES = 3
"""Of inputs that a weight is kept packed for, which takes its memory as often; another shape starts anew."""
_folded = WeightCache[_Folded]()
"""By the norm."""


def convolve(
    convolution: nn.Conv2d,
    norm: nn.BatchNorm2d,
    x: Float[Tensor, "n _ _ _"],
    add: Float[Tensor, "n _ _ _"] | None = None,
    relu: bool = False,
) -> Float[Tensor, "n _ _ _"]:
    """``norm(convolution(x))``, plus ``add``, which may be overwritten, then ReLU.

    In eval mode and without a graph convolution and norm are folded into one convolution, whose weights are kept in the
    dtype that is computed in (autocast's, if it is on) until any of the originals changes. In bf16 on a processor that has
    instructions for it, the sum and the ReLU are part of that convolution too.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or norm.training:
        y: Tensor = norm(convolution(x))
    else:
        dtype = computing_dtype(x, convolution.weight)
        x, folded = x.to(dtype), _fold(convolution, norm, dtype)
        if folded.packed is not None:
            return _fused(convolution, folded, x, add, relu)
        y = conv2d(
            x,
            folded.weight,
            folded.bias,
            convolution.stride,
            convolution.padding,
            convolution.dilation,
            convolution.groups,
        )
    if add is not None:
        y += add
    return y.relu_() if relu else y


def fuses(x: Float[Tensor, "n _ _ _"]) -> bool:
    """Whether ``convolve`` of ``x`` in eval mode is one operator: in autocast's bf16 on a CPU, without a graph."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or x.device.type != "cpu" or x.dtype == torch.float64:
        return False
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16 and _has_bf16()


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d, dtype: torch.dtype) -> _Folded:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None

    def fold() -> _Folded:
        weight, bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, mean, variance, norm.eps, norm.weight, norm.bias
        )
        folded = weight.detach().to(dtype, memory_format=torch.channels_last)
        packs = dtype == torch.bfloat16 and folded.device.type == "cpu" and _has_bf16()
        return _Folded(folded, bias.detach().to(dtype), {} if packs else None)

    statistics = mean, variance, norm.num_batches_tracked  # training moves the first two without telling
    return _folded.get(norm, dtype, (convolution.weight, norm.weight, norm.bias, *statistics), fold)


def _has_bf16() -> bool:
    """Whether oneDNN computes in bf16 on this processor."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _pack(weight: Tensor, settings: tuple[object, ...], shape: torch.Size, packed: dict[torch.Size, Tensor]) -> Tensor:
    """In the layout that oneDNN computes in: any other would be rearranged in every call, some by its slowest code."""
    found = packed.get(shape)
    if found is None:
        if len(packed) >= _MOST_SHAPES:
            packed.clear()
        found = packed[shape] = torch.ops.mkldnn._reorder_convolution_weight(weight, *settings, [*shape])
    return found


def _fused(convolution: nn.Conv2d, folded: _Folded, x: Tensor, add: Tensor | None, relu: bool) -> Tensor:
    """By the operators that ``torch.compile`` takes for frozen weights on a CPU."""
    assert folded.packed is not None
    settings = convolution.padding, convolution.stride, convolution.dilation, convolution.groups
    weight = _pack(folded.weight, settings, x.shape, folded.packed)
    given = x.contiguous(memory_format=torch.channels_last), weight, folded.bias, *settings
    if add is None:
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(*given, "relu" if relu else "none", [], "")
        return y
    total = add.to(x.dtype, memory_format=torch.channels_last)
    torch.ops.mkldnn._convolution_pointwise_(total, *given, "add", 1.0, "relu" if relu else None, [], None)
    return total
