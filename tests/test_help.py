"""``--help``, ``--version`` and completion of every command and action, and the one grammar of their arguments."""

import re
import subprocess
from pathlib import Path

import pytest

from conftest import Command
from mshnet_pl import __version__, config
from mshnet_pl.cli.arguments import parse
from mshnet_pl.config.commands import COMMANDS, CompareConfig, ExportConfig, PredictConfig, PrepareConfig, ReportConfig
from mshnet_pl.config.reference import choice_groups
from mshnet_pl.config.settings import settings
from mshnet_pl.errors import ConfigError
from mshnet_pl.options import Exported, Preparable, Printed

HYDRAS = {
    "mshnet-train": config.Config,
    "mshnet-train replay": config.Config,
    "mshnet-test": config.Config,
    "mshnet-bench": config.BenchConfig,
    "mshnet-report energy": config.EnergyConfig,
}
PROGRAMS = sorted({name.split()[0] for name in (*HYDRAS, *COMMANDS)})
OPTION = re.compile(r"  ([\w./]+)=(\S*(?: \S+)*)  \((.+)\)")


def options(text: str) -> dict[str, tuple[str, str, str]]:
    """Value, type and description of every option that a help shows, by name."""
    found, lines = {}, text.splitlines()
    for number, line in enumerate(lines):
        if matched := OPTION.fullmatch(line):
            doc = []
            for after in lines[number + 1 :]:
                if not after.startswith("      "):
                    break
                doc.append(after.strip())
            found[matched[1]] = matched[2], matched[3], " ".join(doc)
    return found


@pytest.mark.parametrize("name", [*HYDRAS, *COMMANDS])
def test_every_option_is_explained(name: str, command: Command) -> None:
    """Walks all options of a command: a description, a type and a default each, in 100 columns of plain text."""
    done = command(*name.split(), "--help")
    assert done.code == 0 and done.out.startswith(f"{name} "), done.err
    assert max(map(len, done.out.splitlines())) <= 100
    assert f"For example:\n  {name} " in done.out or f"For example:\n  {name}\n" in done.out
    assert not re.search(r"`|%%|\$\$|\b(Args|Returns|Raises|Attributes):|powered by Hydra", done.out)
    shown, schema = options(done.out), (HYDRAS | COMMANDS)[name]
    groups = {*choice_groups(), "data.source"} if name in HYDRAS else set()
    known = {one.key: one.about.doc for one in settings(schema) if one.key not in groups}
    arguments = {f"{one.key}.{argument}" for one in settings(schema) for argument in one.about.arguments}
    assert known.keys() <= shown.keys() <= {*known, *groups, *arguments}
    for key, (value, kind, doc) in shown.items():
        assert value and re.fullmatch(r"[\w /.,-]+", kind) and len(doc) > 8 and doc.endswith("."), key
        assert doc.startswith(known.get(key, "")) and ("required" in kind) == (value == "..."), key
    composes = name in ("mshnet-train", "mshnet-bench")
    assert all((group in shown) == composes for group in ("backbone", "model", "similarity", "callbacks"))
    for action in (other for other in (*HYDRAS, *COMMANDS) if other.startswith(f"{name} ")):
        assert f"\n  {action} " in done.out


@pytest.mark.parametrize("program", PROGRAMS)
def test_version(program: str, command: Command) -> None:
    assert command(program, "--version") == (0, f"mshnet_pl {__version__}\n", "")


def test_bash_completes_settings_and_their_values(command: Command) -> None:
    for program, typed, offered in (("mshnet-predict", "que", "query="), ("mshnet-export", "onn", "onnx")):
        script = command(program, "--shell-completion", "install=bash").out
        words = f"""{script}\neval "compgen $(complete -p {program} | grep -o -- "-W '.*'") -- {typed}" """
        done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [offered]
    assert command("mshnet-report", "-sc", "uninstall=bash").out == "complete -r mshnet-report\n"
    assert "COMP_LINE" in command("mshnet-train", "-sc", "install=bash").out  # Hydra's own


def test_values_are_read_as_hydra_reads_them() -> None:
    given = parse(
        [
            "support=own (2024)",
            "query='a, b=c'",
            "out=~/x",
            "scales=0.75,1",
            "flip=true",
            "tile=null",
            "fusion=",
            "device=007",
        ],
        PredictConfig,
    )
    assert (given.support, given.query, given.out) == (Path("own (2024)"), "a, b=c", Path.home() / "x")
    assert (given.scales, given.flip, given.tile, given.device) == ([0.75, 1], True, None, "007")
    assert parse(["scales=[2]", "fusion=", "support=a", "query=b", "out=c"], PredictConfig).scales == [2]
    assert parse(["data=fss1000", "data.root=x"], PrepareConfig).data is Preparable.fss1000


def test_words_need_no_names() -> None:
    given = parse(["runs/a, b", "format=csv", "./c=d"], ReportConfig, words=("folder",))
    assert given.folder == [Path("runs/a, b"), Path("c=d")] and given.format is Printed.csv
    assert parse(["folder=[x,y]"], ReportConfig, words=("folder",)).folder == [Path("x"), Path("y")]
    two = parse(["x", "shot=5", "y"], CompareConfig, words=("a", "b"))
    assert (two.a, two.b, two.shot) == (Path("x"), Path("y"), 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "onnx"], "--format: settings are given as format=VALUE; mshnet-export --help"),
        (["--image-size=64"], "--image-size=64: settings are given as image_size=64"),
        (["out=a"], "format is not set; give format="),
        (["format=onnx", "out=a", "shots=0"], "shots=0: give a whole number of at least 1"),
        (["format=onnx", "out=a", "shots=1.5"], "shots=1.5: give a whole number"),
        (["format=onnx", "out=a", "shots=1,2"], "shots=1,2: give a whole number"),
        (["format=pt"], "format=pt: give onnx or torch_export"),
        (["fromat=onnx"], "fromat=onnx: there is no such setting here; did you mean format=...?"),
        (["onnx"], "onnx: there is no such setting here"),
        (["overwrite=yes"], "overwrite=yes: give true or false"),
        (["out=a", "out=b"], "out=b: out=a is given too; give it once"),
    ],
)
def test_what_cannot_be_meant(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(arguments, ExportConfig, "mshnet-export")
    assert str(refused.value).startswith(message)
    assert parse(["format=onnx", "out=a"], ExportConfig).format is Exported.onnx
