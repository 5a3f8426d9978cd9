"""Random changes of settings, each tried in this process: prints as JSON what came of them.

A program of its own, since the tests check the types of arguments and would find mistakes before the package does.
"""

import json
import logging
import os
import random
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import tiny
from mshnet_pl import config, results
from mshnet_pl.errors import UserError
from mshnet_pl.runs import launch
from mshnet_pl.runs.job import Run
from mshnet_pl.runs.run import train

TINY = (*tiny.TINY, "trainer.max_steps=1", "test.episodes=1", "threads=1")
VALUES = (
    "null", "abc", "''", "true", "false", "[]", "{}", "[1,2]", "{a:1}", "-1", "0", "1", "2", "3", "1.5", "-0.5", "1e-3",
    "20", "1e30", "inf", "nan", "-1e-9", "[0]", "[abc]", "[-1]", "[null]", "[[1]]", "/nowhere/file", "'${fold}'",
)  # fmt: skip
ADDED = (
    "unknown",
    "data.unknown",
    "model.unknown",
    "optimizer.unknown",
    "trainer.unknown",
    "test.unknown",
    "backbone.unknown",
)
NOT_HERE = ("runs", "gpus", "ckpt", "trainer.devices", "logger", "threads")
"""What other tests change: folders, several processes and threads, loggers."""


def keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in node:
        yield f"{prefix}{key}"
        child = node._get_node(key)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_interpolation():
            yield from keys(child, f"{prefix}{key}.")


def changed(base: DictConfig, overrides: list[str]) -> DictConfig:
    """As Hydra applies them."""
    raw = base.copy()
    for override in OverridesParser.create().parse_overrides(overrides):
        value = override.value()
        if isinstance(value, dict | list):
            value = OmegaConf.create(value)
        if override.is_add():
            OmegaConf.update(raw, override.key_or_group, value, force_add=True)
        else:
            OmegaConf.update(raw, override.key_or_group, value)
    return raw


def outcome(base: DictConfig, overrides: list[str], folder: Path) -> str:
    """``message``, ``run``, or the traceback."""
    try:
        train(Run.of(changed(base, overrides), folder))
    except (UserError, HydraException, OmegaConfBaseException) as error:
        assert str(error).strip(), overrides
        return "message"
    except Exception:
        return traceback.format_exc()
    return "run" if (folder / results.FILE).exists() else "nothing"


CHOICES = (
    (),
    ("callbacks=[ema,early_stopping]", "val.episodes=1", "optimizer=adamw", "scheduler=every_epochs"),
    ("model=hsnet", "backbone=efficientnet_lite0", "optimizer=adam", "scheduler=polynomial"),
    (
        "model=mshnet_lite",
        "ablation=cosine_only",
        "scheduler=every_steps",
        "val.episodes=1",
        "callbacks=[lr_finder]",
        "callbacks.lr_finder.num_training_steps=4",
    ),
)
"""What the changes are made to, in turn; the first one more often."""


def main(folder: Path, changes: int, seed: int) -> dict[str, object]:
    """Try them; gives how many ended how, and the tracebacks of those that failed."""
    config.register()
    bases = []
    with hydra.initialize_config_module("mshnet_pl.conf", version_base="1.3"):
        for choice in CHOICES:
            small = [one for one in TINY if not one.startswith("model.") or "model=" not in " ".join(choice)]
            bases.append(hydra.compose("config", overrides=[*small, *choice]))
    rng = random.Random(seed)
    met: Counter[str] = Counter()
    failed: dict[str, str] = {}
    names: set[str] = set()
    for number in range(changes):
        base = bases[0 if number % 2 else number // 2 % len(bases)]
        known = [key for key in keys(base) if not key.startswith(NOT_HERE)]
        names.update(known)
        overrides = [f"{key}={rng.choice(VALUES)}" for key in rng.sample(known, 2 if number % 5 == 0 else 1)]
        if number % 25 == 0:
            overrides = [f"{rng.choice(('', '+'))}{rng.choice(ADDED)}={rng.choice(VALUES)}"]
        what = outcome(base, overrides, folder / str(number))
        met[what if what in ("message", "run") else "failed"] += 1
        if what not in ("message", "run"):
            failed[" ".join(overrides)] = what
    return {"met": met, "failed": failed, "names": sorted(names)}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    launch.quiet()
    logging.disable(logging.CRITICAL)
    printed = os.dup(1)
    os.dup2(2, 1)  # what Lightning prints is no JSON
    outcomes = main(Path.cwd(), int(sys.argv[1]), int(sys.argv[2]))
    os.write(printed, json.dumps(outcomes).encode())
