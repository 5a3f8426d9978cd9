"""ReLU, quickly."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


def relu(x: Tensor, inplace: bool = False) -> Tensor:
    """``x.relu()``; of bfloat16 on a CPU as the larger of an integer and 0.

    The bits of a bfloat16, read as an integer, have its sign and its order: the result is the same, in half the time, in
    place in a fifth of it. Only a NaN whose sign bit is set becomes 0, as it does in oneDNN's ReLU after a convolution.
    """
    if x.dtype != torch.bfloat16 or x.device.type != "cpu" or torch.compiler.is_compiling():
        return x.relu_() if inplace else x.relu()
    if torch.is_grad_enabled() and x.requires_grad:
        y: Tensor = _ReLU.apply(x, inplace)
        return y
    return _as_integers(x, inplace)


class _ReLU(Function):
    """``_as_integers`` with PyTorch's gradient of a ReLU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, inplace: bool) -> Tensor:  # noqa: ANN401 - as PyTorch has it
        y = _as_integers(x, inplace)
        if inplace:
            ctx.mark_dirty(x)
            y = x
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - as above
        (gradient,), (y,) = gradients, ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradient, y, 0), None


def _as_integers(x: Tensor, inplace: bool) -> Tensor:
    bits = x.view(torch.int16)
    return (bits.clamp_min_(0) if inplace else bits.clamp_min(0)).view(torch.bfloat16)
