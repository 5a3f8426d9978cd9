"""Parameters in groups of their own rates, and SGD beside AdamW for some of the groups."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer


def grouped(
    parameters: Iterable[tuple[str, nn.Parameter]], groups: Mapping[str, Mapping[str, Any]]
) -> list[nn.Parameter] | list[dict[str, Any]]:
    """Learnable parameters for an optimizer; a parameter belongs to the first group whose pattern its name has.

    Args:
        parameters: with their names.
        groups: by any name, each with its ``pattern``, a regular expression, and arguments of the optimizer; ``factor``
            multiplies the optimizer's rate.
    """
    trainable = [(name, p) for name, p in parameters if p.requires_grad]
    if not groups:
        return [p for _, p in trainable]
    made = [{"params": [], "factor": 1.0}, *({"params": [], "factor": 1.0, **group} for group in groups.values())]
    for name, parameter in trainable:
        found = next((i for i, group in enumerate(made[1:], 1) if re.search(str(group["pattern"]), name)), 0)
        made[found]["params"].append(parameter)
    return [{key: value for key, value in group.items() if key != "pattern"} for group in made if group["params"]]


def scale_rates(optimizer: Optimizer) -> None:
    """Multiply every group's rate by its ``factor``."""
    for group in optimizer.param_groups:
        group["lr"] *= group.get("factor", 1.0)


class SGDAndAdamW(Optimizer):
    """SGD, and AdamW for the groups that have ``adamw: true``.

    Args:
        params: parameters or groups.
        lr: rate.
        momentum: of SGD.
        weight_decay: of groups without their own.
    """

    def __init__(self, params: Any, lr: float = 0.01, momentum: float = 0.9, weight_decay: float = 0.0) -> None:  # noqa: ANN401 - as torch's
        defaults = {**SGD([_nothing()], lr=lr).defaults, **AdamW([_nothing()]).defaults, "adamw": False}
        super().__init__(params, {**defaults, "lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._share()

    def _share(self) -> None:
        """Each inner optimizer steps its groups; both know the same state."""
        self._inner: list[Optimizer] = []
        for kind, adamw in ((SGD, False), (AdamW, True)):
            groups = [group for group in self.param_groups if group["adamw"] == adamw]
            if groups:
                optimizer: Optimizer = kind([_nothing()], lr=0.0)
                optimizer.param_groups, optimizer.state = groups, self.state
                self._inner.append(optimizer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's."""
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Any = None) -> Any:  # noqa: ANN401 - as torch's
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self._inner:
            optimizer.step()
        return loss


def _nothing() -> nn.Parameter:
    return nn.Parameter(torch.zeros(1))
