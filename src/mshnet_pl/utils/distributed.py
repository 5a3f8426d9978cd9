"""What the processes of one run tell each other."""

from typing import TypeVar

import torch.distributed

T = TypeVar("T")


def gather_objects(value: T) -> list[T]:
    """The values of all processes, by rank; this one's alone where there is only one."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [value]
    gathered: list[T | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, value)
    return gathered  # type: ignore[return-value]  # filled now
