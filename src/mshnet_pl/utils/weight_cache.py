"""What follows from a module's weights alone, computed once."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

T = TypeVar("T")


class WeightCache(Generic[T]):
    """Keeps a value a module until the weights that it was made of change.

    It lies beside the modules: neither their state nor what is copied and pickled with them.
    """

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[nn.Module, tuple[tuple[object, ...], T]] = WeakKeyDictionary()

    def get(self, module: nn.Module, dtype: torch.dtype, weights: Sequence[Tensor | None], make: Callable[[], T]) -> T:
        """The value that ``make`` gives for ``weights`` in ``dtype``, kept with ``module``."""
        state = dtype, *(None if x is None else (x.data_ptr(), 0 if x.is_inference() else x._version) for x in weights)
        kept = self._kept.get(module)
        if kept is None or kept[0] != state:
            self._kept[module] = kept = state, make()
        return kept[1]


def computing_dtype(x: Tensor, weight: Tensor) -> torch.dtype:
    """What a convolution of ``x`` computes in: autocast's dtype where that is on, else the weight's."""
    device = x.device.type
    autocast = torch.is_autocast_enabled(device) and x.dtype != torch.float64
    return torch.get_autocast_dtype(device) if autocast else weight.dtype
