"""The same training twice gives the same bits, with one thread and with two."""

from pathlib import Path

import pytest
import torch

from mshnet_pl.utils.checkpoint_file import read_checkpoint
from test_faults import TINY, assert_equal_weights, done, state

SETTINGS = (
    *TINY, "data.image_size=64", "data.source.size=64", "model.width=8", "trainer.max_steps=5", "save_every_n_steps=2",
    "trainer.deterministic=true", "data.augment.flip=true", "data.augment.crop_scale=0.7", "data.augment.jitter=0.2",
    "val.episodes=2", "val.every_n_steps=4", "test.episodes=5",
)  # fmt: skip


def counts(folder: Path) -> list[str]:
    return [path.read_text() for path in folder.rglob("episodes_*.csv")]


@pytest.mark.parametrize("threads", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_twice(tmp_path: Path, threads: int) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
        done(folder, *SETTINGS, f"threads={threads}")
    first, second = map(state, folders)
    assert_equal_weights(first, second)
    assert len(counts(folders[0])) == 1 and counts(folders[0]) == counts(folders[1])
    earlier = read_checkpoint(next(folders[0].rglob("previous.ckpt")))["state_dict"]
    changed = [key for key, value in first["state_dict"].items() if not torch.equal(value, earlier[key])]
    assert first["global_step"] == 5 and "method.decoder.head.0.weight" in changed
