"""Convolutions some of whose taps only ever see padding, in single precision on a CPU."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_CONVOLUTIONS = {torch.conv2d: 2, torch.conv3d: 3, torch.nn.functional.conv2d: 2, torch.nn.functional.conv3d: 3}
_ORDER = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


class SinglePrecisionForDeadTaps(TorchFunctionMode):
    """Within, such convolutions are not computed in autocast's bfloat16.

    oneDNN leaves those taps of the bf16 weight gradient as the memory was that it got (torch 2.14, 2.15): strided
    convolutions below 129 pixels, dilated ones on small maps.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - any function of PyTorch
        """See PyTorch."""
        kwargs = kwargs or {}
        if func not in _CONVOLUTIONS or not torch.is_autocast_enabled("cpu"):
            return func(*args, **kwargs)
        given = {**dict(zip(_ORDER, args, strict=False)), **kwargs}
        if given["input"].device.type != "cpu" or not _dead(given, _CONVOLUTIONS[func]):
            return func(*args, **kwargs)
        tensors = {key: given[key] for key in _ORDER[:3] if given.get(key) is not None}
        with torch.autocast("cpu", enabled=False):
            return func(**{**given, **{key: value.float() for key, value in tensors.items()}})


def _dead(given: dict[str, Any], axes: int) -> bool:
    """Whether a tap lies in the padding wherever the kernel is put."""
    image, kernel = given["input"].shape[-axes:], given["weight"].shape[-axes:]
    padding = given.get("padding", 0)
    if isinstance(padding, str):
        return False
    numbers = [_each(value, axes) for value in (given.get("stride", 1), padding, given.get("dilation", 1))]
    return any(_axis(*of_axis) for of_axis in zip(image, kernel, *numbers, strict=True))


def _axis(size: int, kernel: int, stride: int, padding: int, dilation: int) -> bool:
    places = range(0, size + 2 * padding - dilation * (kernel - 1), stride)
    return any(all(not 0 <= place - padding + tap * dilation < size for place in places) for tap in range(kernel))


def _each(value: int | Sequence[int], axes: int) -> list[int]:
    return [value] * axes if isinstance(value, int) else [*value] * (axes if len(value) == 1 else 1)


def single_precision_for_dead_taps(x: Tensor) -> AbstractContextManager[object]:
    """The mode, where ``x`` is on a CPU and autocast is on; else nothing changes."""
    return SinglePrecisionForDeadTaps() if x.device.type == "cpu" and torch.is_autocast_enabled("cpu") else nullcontext()
