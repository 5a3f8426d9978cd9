"""A long run takes no more memory than a short one."""

from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl

from test_faults import TINY, done

MOST = 2.0
"""MiB that may come with the second half."""
_PAGE = 4096


class Sampler(pl.Callback):
    """Notes the process's resident memory in ``memory.txt`` every few batches, by what it is doing."""

    def __init__(self, every: int) -> None:
        self._every = every

    def on_train_batch_end(self, trainer: pl.Trainer, *args: object) -> None:
        self._note(trainer, "train", trainer.global_step)

    def on_test_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: object, batch: object, index: int, loader: int = 0
    ) -> None:
        self._note(trainer, "test", index)

    def _note(self, trainer: pl.Trainer, what: str, number: int) -> None:
        if number % self._every == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            with Path("memory.txt").open("a") as file:
                file.write(f"{what} {number} {pages * _PAGE}\n")


@pytest.mark.parametrize("length", [120, pytest.param(2000, marks=pytest.mark.slow)])
def test_memory_does_not_grow(tmp_path: Path, length: int) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc tells a process's resident memory here")
    done(
        tmp_path, *TINY, f"trainer.max_steps={length}", f"test.episodes={2 * length}", "logger=csv",
        f"save_every_n_steps={length // 4}", f"+callbacks.memory={{_target_: test_memory.Sampler, every: {length // 40}}}",
    )  # fmt: skip
    lines = [line.split() for line in (tmp_path / "memory.txt").read_text().splitlines()]
    for what in ("train", "test"):
        resident = np.array([int(size) for name, _, size in lines if name == what]) / 2**20
        assert len(resident) == 40 and resident[20:].max() - resident[10:20].max() < MOST, resident
