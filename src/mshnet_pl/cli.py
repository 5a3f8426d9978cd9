"""The commands. Configuration errors are one message and exit code 2."""

import argparse
import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mshnet_pl import config, jobs, results
from mshnet_pl.errors import ConfigError, Interrupted, RunFailed, UserError
from mshnet_pl.files import if_full
from mshnet_pl.report import collection, tables

_CONF = "pkg://mshnet_pl.conf"


def train() -> None:
    """``mshnet-train``: train a configuration and test it; ``-m`` for a sweep.

    ``mshnet-train replay ckpt=...`` repeats a training step whose loss or gradient was not finite.
    """
    if sys.argv[1:2] == ["replay"]:
        del sys.argv[1]
        return _compose_from_checkpoint(_replay_job, "replay")
    _compose_and_run(_train_job, "config")


def _train_job(raw: DictConfig) -> float:
    return jobs.start("train", raw)


def _replay_job(raw: DictConfig) -> None:
    from mshnet_pl import replay

    print(replay.repeat(raw))


def test() -> None:
    """``mshnet-test ckpt=...``: test a checkpoint with its own configuration and the command line's changes."""
    _compose_from_checkpoint(_test_job, "test")


def _compose_from_checkpoint(job: Callable[[DictConfig], float | None], config_name: str) -> None:
    """Run ``job`` on the configuration in the checkpoint that ``ckpt`` names, with the command line's changes."""
    arguments = [a for a in sys.argv[1:] if a.startswith("ckpt=")]
    if not arguments and not {"-h", "--help", "--hydra-help", "--version"} & set(sys.argv[1:]):
        _fail(ConfigError("ckpt is not set; give ckpt=PATH, a checkpoint that mshnet-train wrote"))
    try:
        stored = _stored_config(Path(arguments[-1].partition("=")[2])) if arguments else {}
    except UserError as error:
        _fail(error)
    ConfigStore.instance().store(name="checkpoint", node=stored, package="_global_")
    _compose_and_run(job, config_name)


def _test_job(raw: DictConfig) -> float:
    return jobs.start("test", raw)


def report_() -> None:
    """``mshnet-report FOLDER``: the paper's tables and a page of all results below a folder.

    ``mshnet-report compare A B`` compares two runs, ``mshnet-report energy ckpt=...`` draws a checkpoint's energy maps.
    """
    if sys.argv[1:2] == ["energy"]:
        del sys.argv[1]
        return _compose_from_checkpoint(_energy_job, "energy")
    from mshnet_pl.report import command

    try:
        command.main(sys.argv[1:])
    except UserError as error:
        _fail(error)


def _energy_job(raw: DictConfig) -> None:
    from mshnet_pl import energy_figure

    print(energy_figure.make(raw))


def bench_() -> None:
    """``mshnet-bench``: time and memory of a configuration's network."""
    from mshnet_pl.bench import settings

    settings.register()
    _compose_and_run(_bench_job, "bench")


def _bench_job(raw: DictConfig) -> None:
    from mshnet_pl.bench import command

    command.run(raw)


def prepare_() -> None:
    """``mshnet-prepare data=NAME data.root=DIR``: unpack, convert and check a data set; says what is missing."""
    from mshnet_pl.data import prepare

    parser = argparse.ArgumentParser(prog="mshnet-prepare", description=prepare_.__doc__, usage=prepare.USAGE)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="data, data.root and data.splits_dir")
    parser.add_argument("--download", action="store_true", help="fetch official archives that are missing")
    arguments = parser.parse_intermixed_args()
    try:
        prepare.prepare(arguments.settings, arguments.download)
    except UserError as error:
        _fail(error)


def _stored_config(path: Path) -> dict[str, Any]:
    """The configuration inside a checkpoint.

    Raises:
        ConfigError: it is no checkpoint, or it names code that is not the project's, torch's optimizers' or Lightning's.
    """
    from mshnet_pl.checkpoint import read_checkpoint  # only here: composing a configuration needs no PyTorch

    stored: dict[str, Any] = read_checkpoint(path)["hyper_parameters"]["config"]
    for target in _targets(stored):
        try:
            module = get_object(target).__module__
        except Exception as error:  # whatever importing it raises
            raise ConfigError(f"ckpt={path} needs {target}, which cannot be loaded: {error}") from error
        lightning = [f"pytorch_lightning.{room}." for room in ("trainer", "strategies", "loggers", "callbacks")]
        trusted = ("mshnet_pl.", "torch.optim.", *lightning)
        if not f"{module}.".startswith(trusted):
            raise ConfigError(f"ckpt={path} names {target}, which no checkpoint of this project does; it is not loaded")
    return stored


def _targets(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield str(node["_target_"])
        for value in node.values():
            yield from _targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from _targets(value)


def _compose_and_run(job: Callable[[DictConfig], object], config_name: str) -> None:
    """Run ``job`` under Hydra.

    Exits with code 2 and one message for whatever the user can mend.
    """
    config.register()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, instead of printing and exiting with 1
    jobs.quiet()
    jobs.Sweep.folder, started = None, datetime.now(UTC)
    try:
        hydra.main(version_base="1.3", config_path=_CONF, config_name=config_name)(job)()
    except UserError as error:
        _fail(error)
    except RunFailed as error:
        _fail(error, code=1)
    except Interrupted as error:
        _fail(error, error.code)
    except (HydraException, OmegaConfBaseException) as error:  # a choice that Hydra lacks is an OSError as well
        _fail(ConfigError(_explain(error)))
    except OSError as error:
        _fail(if_full(error))
    except ValueError as error:
        if not str(error).startswith("Config group override"):  # Hydra's own, of a group that is set to nothing
            raise
        empty = [argument for argument in sys.argv[1:] if argument.endswith(("=null", "="))]
        _fail(ConfigError(f"{', '.join(empty)}: give the name of one of its choices"))
    finally:
        if jobs.Sweep.folder is not None:
            _end_of_sweep(jobs.Sweep.folder, started)


def _end_of_sweep(folder: Path, started: datetime) -> None:
    """Print the table of all results, then what failed; exits with code 1 if anything did."""
    if any(folder.rglob(results.FILE)):
        try:
            found = collection.collect([folder]).results
        except UserError as error:
            _fail(error)
        print(f"\n{tables.markdown(found)}", flush=True)
        _track(found)
    failed = results.failures(folder, started)
    if failed:
        lines = [f"  {' '.join(f.overrides)}\n    {f.error}\n    log: {f.log}" for f in failed]
        again = "The same command does them again, and nothing else."
        print("\n".join([f"error: {len(failed)} jobs came to no result:", *lines, again]), file=sys.stderr)
        raise SystemExit(1)


def _track(found: list[results.Result]) -> None:
    if any("Tracker" in (run.config.get("logger") or {}).get("_target_", "") for run in found):
        from mshnet_pl.callbacks import track_sweep

        track_sweep(found)


def _explain(error: Exception) -> str:
    """Hydra's message with its cause, and what was probably meant."""
    missing = re.search(r"Missing mandatory value: (\S+)", str(error))
    if missing:
        return f"{missing[1]} is not set; give {missing[1]}=..."
    lines = [str(error).strip()]
    if isinstance(error.__cause__, OmegaConfBaseException):
        lines.append(str(error.__cause__).strip())
    unknown = re.search(r"Could not override '([^']+)'", lines[0])
    if unknown and re.search(r"Key '.*' (is )?not in ", "\n".join(lines)):
        keys = {key.rpartition(".")[2]: key for key in _known_keys()}
        close = difflib.get_close_matches(unknown[1].rpartition(".")[2], keys, n=3)
        lines = [f"{unknown[1]}: there is no such setting"]
        if close:
            lines.append(f"did you mean {' or '.join(keys[name] for name in close)}?")
        lines.append("--cfg job prints every setting")
    launcher = re.search(r"hydra/launcher/(joblib|ray|submitit_local|submitit_slurm)\b", lines[0])
    if launcher:
        extra = launcher[1].replace("submitit_local", "slurm").replace("submitit_slurm", "slurm")
        return f"hydra/launcher={launcher[1]} is not installed; pip install 'mshnet_pl[{extra}]'"
    choice = re.search(r"Could not load '([^']+)/([^'/]+)'", lines[0])
    if choice:
        known = sorted(path.name.removesuffix(".yaml") for path in (files("mshnet_pl.conf") / choice[1]).iterdir())
        lines = [f"{choice[1]}/{choice[2]}: there is no such choice; {choice[1]} has {', '.join(known)}"]
    return "\n".join(lines)


def _known_keys() -> list[str]:
    return [*_flatten(config.compose())]


def _flatten(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, node):
        yield f"{prefix}{key}"
        child = OmegaConf.select(node, key, throw_on_missing=False)
        if isinstance(child, DictConfig):
            yield from _flatten(child, f"{prefix}{key}.")


def _fail(error: UserError | RunFailed | Interrupted, code: int = 2) -> NoReturn:
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(code)
