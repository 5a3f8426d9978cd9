"""The hash that identifies a run: equal for equal results, different otherwise, and untouched by what is added later."""

import ast
import copy
import inspect
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from enum import Enum
from functools import reduce
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import pytest

from conftest import ROOT
from mshnet_pl import config, results
from mshnet_pl.config.settings import Described, Effect, settings
from mshnet_pl.models import MSHNet
from random_changes import TINY

WITHOUT = {
    "runs", "logger", "save_every_n_steps", "threads", "gpus", "data.num_workers", "data.cache_mb", "data.cache_dir",
    "data.feature_cache", "test.pictures", "test.feature_mb", "trainer.enable_progress_bar", "trainer.enable_model_summary",
    "trainer.log_every_n_steps", "trainer.accelerator", "trainer.strategy",
}  # fmt: skip
"""What changes no result; the number of processes does (a batch is larger), its name and place do not."""


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    return config.plain(config.compose())


def changed(base: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    made = copy.deepcopy(base)
    *groups, name = key.split(".")
    reduce(dict.__getitem__, groups, made)[name] = value
    return made


def other(one: Described, now: object) -> object:
    """A value of the setting's type that it does not have."""
    kind = get_args(one.kind)[0] if isinstance(one.kind, UnionType) else one.kind
    if get_origin(kind) is list:
        return [*(now if isinstance(now, list) else []), 7]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(member.name for member in kind if member.name != now)
    if kind is bool:
        return not now
    if kind in (int, float):
        return kind((now if isinstance(now, int | float) else 0) + 1)
    return "/other" if kind is str else {"_target_": "elsewhere.Other"}


def test_settings_without_effect_are_these() -> None:
    named = {key for key, effect in config.settings.effects(config.Config).items() if effect is Effect.NO}
    assert named == WITHOUT | {"trainer.devices", "trainer.num_nodes"}


def test_every_single_change(base: dict[str, Any]) -> None:
    own = config.config_hash(base)
    seen = {own}
    for one in settings(config.Config):
        now = reduce(dict.__getitem__, one.key.split("."), base)
        found = config.config_hash(changed(base, one.key, other(one, now)))
        assert (found == own) == (one.key in WITHOUT), one.key
        seen.add(found)
        for name, about in one.about.arguments.items():
            key = f"{one.key}.{name}"
            value = {"devices": 2, "num_nodes": 2}.get(name, "other")
            found = config.config_hash(changed(base, key, value))
            assert (found == own) == (key in WITHOUT) and (key in WITHOUT) <= (about.effect is Effect.NO), key
    assert len(seen) == 1 + sum(one.key not in WITHOUT for one in settings(config.Config)), "two changes share a hash"


def test_starting_anew_is_the_same_run_and_a_checkpoint_is_not(base: dict[str, Any]) -> None:
    own = config.config_hash(base)
    assert config.config_hash(changed(base, "ckpt_path", None)) == own
    assert config.config_hash(changed(base, "ckpt_path", "a.ckpt")) != own


def test_order_counts_only_where_it_can(base: dict[str, Any]) -> None:
    own = config.config_hash(base)
    backwards = dict(reversed(base["similarity"].items()))
    assert config.config_hash(changed(changed(base, "similarity", backwards), "model.similarities", backwards)) != own
    assert config.config_hash(changed(base, "model", dict(reversed(base["model"].items())))) == own
    assert config.config_hash(dict(reversed(base.items()))) == own


CHANGES: tuple[tuple[str, object], ...] = (
    *(("model.width", value) for value in (128, 128.0, "128", 64, None, [128])),
    *(("model.deep_supervision", value) for value in (True, 1, 1.0, False)),
    *(("model.channel_gate", value) for value in (True, 1, "True", False)),
    *(("model.blocks", value) for value in ([2, 3, 4], [2, 3], ["2", 3, 4], "[2, 3, 4]", [[2, 3, 4]])),
    *(("data.source.seed", value) for value in (0, False, 1, -0.0, None)),
    *(("data.source.val_images", value) for value in (25, "25", 5)),
    *(("test.shots", value) for value in (None, [1], [], [1, 5])),
    *(("test.seeds", value) for value in ([0], [1], [0, 1])),
    *(("callbacks", value) for value in (None, {}, {"ema": {"_target_": "mshnet_pl.training.ExponentialMovingAverage"}})),
    *(("loss.inner_weight", value) for value in (1 / 3, 0.3333333, 0.0, -0.0)),
    *(("data.root", value) for value in (None, "None", "", "runs")),
    *(("data.splits_dir", value) for value in (None, "None", "")),
    *(("optimizer.lr", value) for value in (1e-3, 0.05, "0.05")),
    *(("backbone.weights", value) for value in ("imagenet", "random", {"imagenet": 1}, {1: "a"}, {"1": "a"})),
    *(("fold", value) for value in (0, 1)),
    *(("runs", value) for value in ("a", "b")),
)
SIGNATURES = {
    "model": {"width": 128, "blocks": [2, 3, 4], "channel_gate": True, "deep_supervision": True},
    "data.source": {"seed": 0, "val_images": 25},
    "backbone": {"weights": "imagenet"},
}
"""Defaults that an absent argument stands for."""


def spelled_out(value: object) -> object:
    """With types, and arguments of classes in one order."""
    if isinstance(value, dict):
        items = [(spelled_out(key), spelled_out(one)) for key, one in value.items()]
        return ("dict", *(sorted(items, key=repr) if "_target_" in value else items))
    return ("list", *map(spelled_out, value)) if isinstance(value, list) else (type(value).__name__, repr(value))


def spelled_out_config(made: dict[str, Any]) -> str:
    full = {key: value for key, value in copy.deepcopy(made).items() if key not in WITHOUT}
    for key, defaults in SIGNATURES.items():
        node = reduce(dict.__getitem__, key.split("."), full)
        node |= {name: value for name, value in defaults.items() if name not in node}
    return repr(spelled_out(full))


def random_configs(base: dict[str, Any], count: int) -> Iterator[dict[str, Any]]:
    rng = random.Random(0)
    for _ in range(count):
        made = base
        for key, value in rng.sample(CHANGES, rng.randrange(4)):
            made = changed(made, key, value)
        if rng.random() < 0.3:
            made = copy.deepcopy(made)
            made["model"].pop(rng.choice(["channel_gate", "blocks", "width"]), None)
        yield made


def test_random_configurations_share_a_hash_only_if_they_are_the_same(base: dict[str, Any]) -> None:
    found: dict[str, str] = {}
    hashes: dict[str, str] = {}
    for made in random_configs(base, 1000):
        spelled, digest = spelled_out_config(made), config.config_hash(made)
        assert found.setdefault(digest, spelled) == spelled, "different configurations, one hash"
        assert hashes.setdefault(spelled, digest) == digest, "one configuration, different hashes"
    assert len(found) > 300


def test_defaults_of_others_count(base: dict[str, Any]) -> None:
    """Those of torch and Lightning may change with their versions; what cannot be imported has none that are known."""
    own = config.config_hash(base)
    assert config.config_hash(changed(base, "optimizer.dampening", 0)) != own
    nowhere = changed(base, "model._target_", "mshnet_pl.nowhere.MSHNet")
    assert config.config_hash(nowhere) != config.config_hash(changed(nowhere, "model.atrous", False))


def test_a_class_has_the_defaults_of_its_base_where_it_passes_arguments_on(base: dict[str, Any]) -> None:
    lite = changed(base, "model._target_", "mshnet_pl.models.MSHNetLite")
    shorter = copy.deepcopy(lite)
    assert shorter["model"].pop("deep_supervision") is True
    assert config.config_hash(shorter) == config.config_hash(lite)
    narrow, wide = changed(lite, "model.width", 96), changed(lite, "model.width", 128)
    without = copy.deepcopy(lite)
    del without["model"]["width"]
    assert config.config_hash(narrow) == config.config_hash(without) != config.config_hash(wide)


@pytest.fixture
def doctored(tmp_path: Path) -> Path:
    """A copy of the package that has one more setting, one more argument of MSHNet, and a module of another name."""
    package = tmp_path / "src" / "mshnet_pl"
    shutil.copytree(ROOT / "src" / "mshnet_pl", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "conf", package / "conf", ignore=shutil.ignore_patterns("__pycache__"))
    schema = package / "config" / "schema.py"
    field = "    shot: int = setting("
    assert schema.read_text().count(field) == 1
    schema.write_text(schema.read_text().replace(field, f'    dummy: int = setting(7, "Nothing.", min=0)\n{field}'))
    model = package / Path(inspect.getfile(MSHNet)).relative_to(ROOT / "src" / "mshnet_pl")
    model.write_text(with_argument(model.read_text(), "MSHNet", "dummy: int = 3"))
    yaml = package / "conf" / "model" / "mshnet.yaml"
    yaml.write_text(f"{yaml.read_text()}dummy: 3\n")
    (package / "backbones" / "efficientnet.py").rename(package / "backbones" / "renamed.py")
    for path in package.rglob("*.py"):
        path.write_text(path.read_text().replace("mshnet_pl.backbones.efficientnet", "mshnet_pl.backbones.renamed"))
    return tmp_path / "src"


def with_argument(source: str, name: str, argument: str) -> str:
    """The source with one more argument of a class's constructor."""
    (owner,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name)
    (init,) = (node for node in owner.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    last = (init.args.kw_defaults or init.args.defaults)[-1]
    assert last is not None and last.end_lineno is not None
    lines = source.splitlines(keepends=True)
    line, column = lines[last.end_lineno - 1], last.end_col_offset
    lines[last.end_lineno - 1] = f"{line[:column]}, {argument}{line[column:]}"
    return "".join(lines)


@pytest.mark.slow
def test_what_is_added_leaves_finished_runs_finished(tmp_path: Path, doctored: Path) -> None:
    program = "import mshnet_pl; print(mshnet_pl.__file__); from mshnet_pl.cli.train import main; main()"
    inherited = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def train(source: Path, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, *TINY, "val.episodes=0", *arguments], cwd=tmp_path, capture_output=True,
            env={**inherited, "PYTHONPATH": str(source)}, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.startswith(str(source / "mshnet_pl"))
        return done.stderr

    assert "already done" not in train(ROOT / "src")
    (finished,) = (tmp_path / "runs").rglob(results.FILE)
    before = finished.read_bytes()
    assert "already done" in train(doctored) and "already done" in train(doctored, "dummy=7", "model.dummy=3")
    assert [*(tmp_path / "runs").rglob(results.FILE)] == [finished] and finished.read_bytes() == before
    for place, argument in enumerate(("dummy=8", "model.dummy=4"), start=2):
        assert "already done" not in train(doctored, argument)
        assert len([*(tmp_path / "runs").rglob(results.FILE)]) == place
