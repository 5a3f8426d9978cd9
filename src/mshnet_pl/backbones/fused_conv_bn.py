"""Convolution and BatchNorm of a frozen network as one convolution."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.nn.utils.fusion import fuse_conv_bn_weights


def convolve(convolution: nn.Conv2d, norm: nn.BatchNorm2d, x: Float[Tensor, "n _ _ _"]) -> Float[Tensor, "n _ _ _"]:
    """``norm(convolution(x))``.

    In eval mode and without a graph the two are folded into one convolution, whose weights are kept in the dtype that is
    computed in (autocast's, if it is on) until any of the originals changes. State dicts keep the originals alone.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or norm.training:
        if norm.training:  # moves the running statistics, without telling
            vars(norm).pop("folded", None)
        normalised: Tensor = norm(convolution(x))
        return normalised
    autocast = torch.is_autocast_enabled(x.device.type)
    dtype = torch.get_autocast_dtype(x.device.type) if autocast and x.dtype != torch.float64 else convolution.weight.dtype
    weight, bias = _folded(convolution, norm, dtype)
    return conv2d(
        x.to(dtype), weight, bias, convolution.stride, convolution.padding, convolution.dilation, convolution.groups
    )


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None and norm.running_var is not None
    originals = (convolution.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
    state = dtype, *((x.data_ptr(), 0 if x.is_inference() else x._version) for x in originals)
    kept = getattr(norm, "folded", None)  # a plain attribute: it is no part of the state
    if kept is None or kept[0] != state:
        weight, bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        kept = state, weight.detach().to(dtype, memory_format=torch.channels_last), bias.detach().to(dtype)
        object.__setattr__(norm, "folded", kept)
    return kept[1], kept[2]
