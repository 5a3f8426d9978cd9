"""GPUs of one machine, shared out among the jobs of any number of sweeps: no two jobs on one device."""

import os
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mshnet_pl.errors import ConfigError

LOCKS = Path(tempfile.gettempdir()) / "mshnet_pl_gpus"


def count() -> int:
    """How many GPUs this process may use."""
    import torch  # only here: what composes and starts sweeps needs no PyTorch

    return torch.cuda.device_count()


def chosen(accelerator: str) -> str:
    """``cuda`` if there is a GPU and the setting ``trainer.accelerator`` is not ``cpu``, else ``cpu``."""
    return "cuda" if accelerator != "cpu" and count() else "cpu"


def listed(gpus: Sequence[str | int] | str | None) -> list[str]:
    """The devices that the setting ``gpus`` names: ``all`` that this process may see, a list of numbers, or null for none.

    Raises:
        ConfigError: ``all`` where there is none, or a device named twice.
    """
    if gpus is None:
        return []
    if isinstance(gpus, str) and gpus != "all":
        raise ConfigError(f"gpus={gpus}: give all, a list such as [0,1], or null")
    if gpus == "all":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = visible.split(",") if visible else range(count())
    names = [str(gpu).strip() for gpu in gpus]
    if not names:
        raise ConfigError("gpus=all: this machine has no GPU; leave gpus=null, and take hydra/launcher=joblib for its cores")
    if len({*names}) < len(names):
        raise ConfigError(f"gpus={names}: each device once")
    return names


@contextmanager
def claim(gpus: Sequence[str | int] | str | None, wanted: int, locks: Path = LOCKS) -> Iterator[str | None]:
    """Hold ``wanted`` of the devices ``gpus`` for oneself, waiting until so many are free.

    Args:
        gpus: see ``listed``; None claims nothing.
        wanted: how many at once.
        locks: folder of the lock files, the same for all processes of the machine; a lock dies with its process.

    Yields:
        A value for ``CUDA_VISIBLE_DEVICES``, or None.

    Raises:
        ConfigError: more devices wanted than there are.
    """
    names = listed(gpus)
    if not names:
        yield None
        return
    if wanted > len(names):
        raise ConfigError(f"trainer.devices={wanted} needs {wanted} GPUs, gpus={names} are {len(names)}")
    locks.mkdir(parents=True, exist_ok=True)
    while True:
        with ExitStack() as held:
            mine = []
            for name in names:
                try:
                    held.enter_context(FileLock(locks / f"{name}.lock", timeout=0))
                    mine.append(name)
                except Timeout:
                    continue
                if len(mine) == wanted:
                    yield ",".join(mine)
                    return
        time.sleep(random.uniform(0.2, 1))  # all were given back: two that wait cannot hold half each
