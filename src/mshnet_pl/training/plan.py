"""How long training will be by the limits of its trainer."""

import pytorch_lightning as pl


def steps_per_epoch(trainer: pl.Trainer, batches: int) -> int:
    """Optimizer steps of an epoch of so many batches; the last may accumulate fewer."""
    return -(-batches // trainer.accumulate_grad_batches)


def planned_steps(trainer: pl.Trainer, batches: int) -> int:
    """How many optimizer steps the limits ask for, of which there must be one; an epoch has so many batches."""
    limits = [trainer.max_steps, (trainer.max_epochs or -1) * steps_per_epoch(trainer, batches)]
    return min(limit for limit in limits if limit > 0)


def planned_batches(trainer: pl.Trainer, batches: int) -> int:
    """How many batches these steps take."""
    epochs, steps = divmod(planned_steps(trainer, batches), steps_per_epoch(trainer, batches))
    return epochs * batches + steps * trainer.accumulate_grad_batches
