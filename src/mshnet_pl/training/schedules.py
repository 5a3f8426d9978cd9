"""Learning-rate schedules over optimizer steps, each a factory of the same signature.

All take the optimizer, ``total_steps`` (optimizer steps of the whole training) and ``steps_per_epoch`` (optimizer steps of
an epoch), and return a ``LambdaLR`` that is to be stepped after every optimizer step. Groups of parameters that are marked
``constant`` keep their initial rate.
"""

from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def exponential(optimizer: Optimizer, total_steps: int, steps_per_epoch: int, final: float = 0.1) -> LambdaLR:
    """Exponential decay from the initial rate to ``final`` times it after ``total_steps`` (the paper gives no rate)."""
    return _scaled(optimizer, lambda step: final ** (step / total_steps))


def every_epochs(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, epochs: int = 5, factor: float = 0.9
) -> LambdaLR:
    """The authors' code: times ``factor`` every ``epochs`` epochs."""
    return _scaled(optimizer, lambda step: factor ** (step // (epochs * steps_per_epoch)))


def constant(optimizer: Optimizer, total_steps: int, steps_per_epoch: int) -> LambdaLR:
    """No decay: every rate stays at its initial value."""
    return LambdaLR(optimizer, lambda _: 1.0)


def every_steps(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, steps: int = 10_000, factor: float = 0.1
) -> LambdaLR:
    """Times ``factor`` every ``steps`` optimizer steps."""
    return _scaled(optimizer, lambda step: factor ** (step // steps))


def polynomial(optimizer: Optimizer, total_steps: int, steps_per_epoch: int, power: float = 0.9) -> LambdaLR:
    """The initial rate times ``(1 - step / total_steps) ** power``; 1 is a straight line."""
    return _scaled(optimizer, lambda step: max(1 - step / total_steps, 0) ** power)


def _scaled(optimizer: Optimizer, factor: Callable[[int], float]) -> LambdaLR:
    """Rates times ``factor`` of the step; those of groups that are ``constant`` stay."""
    return LambdaLR(optimizer, [(lambda _: 1.0) if group.get("constant") else factor for group in optimizer.param_groups])
