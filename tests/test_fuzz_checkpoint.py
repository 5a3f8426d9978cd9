"""Random damage to a checkpoint: a message, or the numbers of the whole file; never a traceback or another number."""

import random
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mshnet_pl import Segmenter
from mshnet_pl.config.stored import stored_config
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.errors import ConfigError


def flipped(content: bytes, rng: random.Random) -> bytes:
    """Some bits, some bytes, or the end of a file changed."""
    damaged, how = bytearray(content), rng.randrange(4)
    if how == 0:
        return content[: rng.randrange(len(content))]
    if how == 1:
        return content + rng.randbytes(rng.randrange(1, 2000))
    for _ in range(rng.choice((1, 3, 30))):
        place = rng.randrange(len(damaged)) if how == 2 else len(damaged) - 1 - rng.randrange(min(4000, len(damaged)))
        damaged[place] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def pickled_otherwise(checkpoint: Path, path: Path, rng: random.Random) -> None:
    """Damage inside of the pickle, whose checksum is then that of the damaged one."""
    with zipfile.ZipFile(checkpoint) as whole, zipfile.ZipFile(path, "w") as damaged:
        for entry in whole.infolist():
            content = bytearray(whole.read(entry))
            if entry.filename.endswith("data.pkl"):
                for _ in range(rng.choice((1, 2, 10))):
                    content[rng.randrange(len(content))] = rng.randrange(256)
            damaged.writestr(entry, bytes(content))


VALUES = (None, True, 0, -1, 3, 2**40, 10**30, 0.5, -1e30, float("nan"), float("inf"), "", "abc", "${fold}", "../x", [], {},
          [[]], {"_target_": "os.getcwd"}, torch.ones(2), b"x")  # fmt: skip


def set_otherwise(node: Any, rng: random.Random) -> None:  # noqa: ANN401 - a tree
    """One value somewhere in a stored configuration."""
    while True:
        key = rng.choice([*node])
        if isinstance(node[key], dict) and node[key] and rng.random() < 0.8:
            node = node[key]
            continue
        node[key] = rng.choice(VALUES)
        return


@pytest.mark.parametrize(("seed", "count"), [(0, 12), pytest.param(1, 300, marks=pytest.mark.slow)])
def test_random_damage(checkpoint: Path, tmp_path: Path, seed: int, count: int) -> None:
    rng, bad, met = random.Random(seed), tmp_path / "bad.ckpt", Counter[str]()
    source = Synthetic(size=80)
    image, mask = source.image("val-00-0000"), source.mask("val-00-0000", [0])

    def margins(path: Path) -> np.ndarray:
        segmenter = Segmenter.from_checkpoint(path).fit(image, mask)
        return next(iter(segmenter.margins(image))).numpy()

    content, expected = checkpoint.read_bytes(), margins(checkpoint)
    for number in range(count):
        if number % 3 == 0:
            bad.write_bytes(flipped(content, rng))
        elif number % 3 == 1:
            pickled_otherwise(checkpoint, bad, rng)
        else:
            state = torch.load(checkpoint, weights_only=True)
            set_otherwise(state["hyper_parameters"]["config"], rng)
            torch.save(state, bad)
        for read in (stored_config, margins):
            try:
                found = read(bad)
            except ConfigError as error:
                assert "bad.ckpt" in str(error) or "predicts NaN" in str(error)
                met["message"] += 1
                continue
            met["read"] += 1
            same = read is stored_config or number % 3 or np.array_equal(found, expected)
            assert same, f"seed {seed}, change {number}: other numbers"
    assert met["message"] > count / 2 and met["read"] > count / 10, met
    print(met)
