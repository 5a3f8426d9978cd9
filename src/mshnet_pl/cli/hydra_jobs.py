"""Running a job under Hydra: composes its configuration, explains what is wrong with it, and ends sweeps."""

import difflib
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from importlib.resources import files
from pathlib import Path

import hydra
from hydra._internal.utils import get_args
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mshnet_pl import config, results
from mshnet_pl.cli import help, quoting
from mshnet_pl.cli.arguments import about_path, errors_end_it, fail
from mshnet_pl.errors import ConfigError, RunFailed, UserError, on_screen
from mshnet_pl.report import collection, tables, terminal
from mshnet_pl.runs import jobs, launch, sweeps
from mshnet_pl.runs.sweeps import Sweep
from mshnet_pl.utils.files import find_files
from mshnet_pl.utils.targets import class_name

_CONF = "mshnet_pl.conf"
OmegaConf.register_new_resolver("help", help.text, replace=True)


def run_on_checkpoint(job: Callable[[DictConfig], float | None], config_name: str, default: str | None = None) -> None:
    """Run ``job`` on what is taken of the configuration in the checkpoint that ``ckpt`` names, with the command line's."""
    sys.argv[1:] = quoting.quoted(sys.argv[1:])
    if {"-h", "--help", "--hydra-help", "--version"} & {*sys.argv[1:]}:
        ConfigStore.instance().store(name="checkpoint", node={}, package="_global_")
        run(job, config_name)
        return
    named = quoting.value_of("ckpt", sys.argv[1:])
    path = default if named is None else named
    if path is None:
        fail(ConfigError("ckpt is not set; give ckpt=PATH, a checkpoint that mshnet-train wrote"))
    from mshnet_pl.config.stored import held_to, stored_config  # only here: composing needs no PyTorch
    from mshnet_pl.inference import as_checkpoint, pretrained

    with errors_end_it():
        if pretrained.finder(path) is None:
            stored = stored_config(Path(path))
        else:
            stored = held_to(as_checkpoint.read(path)["hyper_parameters"]["config"], path)
    _check_files(stored.files)
    choice = quoting.value_of("data", sys.argv[1:])
    if choice is not None:  # in the place of the checkpoint's data, of which nothing may stay
        given = [argument for argument in sys.argv[1:] if argument.lstrip("+").startswith("data=")]
        if len(given) > 1 or not isinstance(choice, str):
            fail(ConfigError(f"{' '.join(given)}: give one data set; a command each tests several"))
        with errors_end_it():
            config.take_data(stored.config, choice)
        sys.argv[1:] = [argument for argument in sys.argv[1:] if argument not in given]
    elif not stored.config.get("data", {}).get("source"):
        fail(ConfigError(f"ckpt={path} brings no data to be tested on; give some, as data=pascal5i data.root=DIR"))
    ConfigStore.instance().store(name="checkpoint", node=stored.config, package="_global_")
    run(job, config_name)


def _check_files(files: Mapping[str, str]) -> None:
    """End the command where it does not name the files that training read: a checkpoint opens none by itself."""
    given = {argument.lstrip("+").partition("=")[0] for argument in sys.argv[1:]}
    missing = {key: path for key, path in files.items() if not {key, "data"} & given}
    if missing:
        again = " ".join(f"{key}={shlex.quote(path)}" for key, path in missing.items())
        fail(ConfigError(
            f"{', '.join(missing)}: a checkpoint does not choose which files are read; it was trained with\n  {again}\n"
            "Give these if they are yours, or others"
        ))  # fmt: skip


def run(job: Callable[[DictConfig], object], config_name: str) -> None:
    """Run ``job`` under Hydra.

    Exits with code 2 and one message for whatever the user can mend.
    """
    config.register()
    sys.argv[1:] = quoting.quoted(sys.argv[1:])
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises, instead of printing and exiting with 1
    launch.quiet()
    Sweep.folder = None
    try:
        if {"-h", "--help"} & {*sys.argv[1:]}:
            print(_help(config_name))
        else:
            _start(job, config_name)
            Sweep.on_the_end()
    except UserError as error:
        fail(error)
    except sweeps.Refused as refused:
        fail(refused.args[0])
    except RunFailed as error:
        fail(error, code=1)
    except (HydraException, OmegaConfBaseException) as error:  # a choice that Hydra lacks is an OSError as well
        fail(ConfigError(_explain(error)))
    except (OSError, RuntimeError) as error:
        fail(about_path(error))
    except ValueError as error:  # Hydra's own, of arguments
        if str(error).startswith("Only one of --run"):
            fail(ConfigError("-m and --cfg: give one of them; without -m, --cfg job prints the settings of one job"))
        if not str(error).startswith("Config group override"):  # of a group that is set to nothing
            raise
        empty = [argument for argument in sys.argv[1:] if argument.endswith(("=null", "="))]
        fail(ConfigError(f"{', '.join(empty)}: give the name of one of its choices"))
    finally:
        Sweep.close()
        os.environ.pop(jobs.SWEEP, None)
        if Sweep.folder is not None:
            _end_of_sweep(Sweep.folder)


def _start(job: Callable[[DictConfig], object], config_name: str) -> None:
    """Let Hydra compose the configuration and start ``job``.

    ``hydra.main`` composes it twice, since it may say that a sweep is meant: without flags and experiments it cannot.
    """
    errors: list[Exception] = []

    @wraps(job)
    def held(raw: DictConfig) -> object:
        try:
            return job(raw)
        except (UserError, RunFailed) as error:
            if HydraConfig.get().mode is RunMode.MULTIRUN:
                raise
            errors.append(error)  # above what is raised Hydra prints a line of its own
            return None

    arguments = sys.argv[1:]
    if quoting.may_sweep(arguments) or any(argument.startswith("-") for argument in arguments):
        hydra.main(version_base="1.3", config_path=f"pkg://{_CONF}", config_name=config_name)(held)()
    else:
        with hydra.initialize_config_module(_CONF, version_base="1.3"):
            single = GlobalHydra.instance().hydra
            assert single is not None
            single.run(config_name, held, [*arguments, "hydra.mode=RUN"])
    if errors:
        raise errors[0]


def _help(config_name: str) -> str:
    """What ``hydra.help.template`` says; Hydra itself would list all its groups before it prints that, which takes seconds.

    Raises:
        ConfigError: there is no such folder as ``--config-dir`` names.
    """
    given = get_args()
    if given.config_dir and not Path(given.config_dir).is_dir():
        raise ConfigError(f"--config-dir {given.config_dir}: there is no such folder")
    folder = [f"hydra.searchpath=[file://{Path(given.config_dir).resolve()}]"] if given.config_dir else []
    with hydra.initialize_config_module(_CONF, version_base="1.3"):
        composed = hydra.compose(given.config_name or config_name, [*given.overrides, *folder], return_hydra_config=True)
    return str(composed.hydra.help.template)


def _end_of_sweep(folder: Path) -> None:
    """Print the table of its results, then what failed; exits with code 1 if anything did and no error is under way."""
    own = [*sweeps.folders().values()] if Sweep.jobs else [folder]
    if any(file for one in own for file in find_files(one, results.FILE)):
        with errors_end_it():
            found = collection.collect(own).results
        print(f"\n{terminal.shown(tables.scores(found))}", flush=True)
        _track(found)
        print(f"next:\n  mshnet-report {shlex.quote(os.path.relpath(folder))}", file=sys.stderr)
    failed = [*results.failures(folder, Sweep.before).values()]
    if failed:
        lines = [on_screen(f"  {' '.join(f.overrides)}\n    {f.error}\n    log: {f.log}") for f in failed]
        again = "The same command does them again, and nothing else."
        print("\n".join([f"error: {len(failed)} jobs came to no result:", *lines, again]), file=sys.stderr)
        if sys.exception() is None:
            raise SystemExit(1)


def _track(found: list[results.Result]) -> None:
    if any(class_name((run.config.get("logger") or {}).get("_target_")) == "WandbTracker" for run in found):
        from mshnet_pl.training.callbacks import track_sweep

        track_sweep(found)


def _explain(error: Exception) -> str:
    """Hydra's message with its cause, and what was probably meant."""
    missing = re.search(r"Missing mandatory value: (\S+)", str(error))
    if missing:
        return f"{missing[1]} is not set; give {missing[1]}=..."
    several = re.match(r"Ambiguous value for argument '(.*?)'\n", str(error), re.DOTALL)
    if several:
        key, _, value = several[1].partition("=")
        return (
            f"{several[1]}: several values; add -m for a run with each, or give a list, {shlex.quote(f'{key}=[{value}]')}, "
            f"or a text, {quoting.example(several[1])}"
        )
    if isinstance(error, OverrideParseException):
        reason = str(error).partition("\n")[0]
        return (
            f"{error.override}: not to be read as a value ({reason}); a text with such signs needs quotes of its own: "
            f"{quoting.example(error.override)}"
        )
    lines = [str(error).strip()]
    if isinstance(error.__cause__, OmegaConfBaseException):
        lines.append(str(error.__cause__).strip())
    unknown = re.search(r"Could not override '([^']+)'", lines[0])
    if unknown and re.search(r"Key '.*' (is )?not in ", "\n".join(lines)):
        keys = {key.rpartition(".")[2]: key for key in _flatten(config.compose())}
        close = [keys[name] for name in difflib.get_close_matches(unknown[1].rpartition(".")[2], keys, n=3)]
        close = [key for key in close if key != unknown[1]]
        lines = [f"{unknown[1]}: there is no such setting"]
        if close:
            lines.append(f"did you mean {' or '.join(close)}?")
        lines.append("--cfg job prints every setting")
    launcher = re.search(r"hydra/launcher/(joblib|ray|submitit_local|submitit_slurm)\b", lines[0])
    if launcher:
        extra = launcher[1].replace("submitit_local", "slurm").replace("submitit_slurm", "slurm")
        return f"hydra/launcher={launcher[1]} is not installed; pip install 'mshnet_pl[{extra}]'"
    choice = re.search(r"Could not (?:load|find) '([^']+)/([^'/]+)'", lines[0])
    if choice:
        known = sorted(path.name.removesuffix(".yaml") for path in (files("mshnet_pl.conf") / choice[1]).iterdir())
        lines = [f"{choice[1]}/{choice[2]}: there is no such choice; {choice[1]} has {', '.join(known)}"]
    return "\n".join(lines)


def _flatten(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, node):
        yield f"{prefix}{key}"
        child = OmegaConf.select(node, key, throw_on_missing=False)
        if isinstance(child, DictConfig):
            yield from _flatten(child, f"{prefix}{key}.")
