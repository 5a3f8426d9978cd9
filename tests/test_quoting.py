"""Values with the signs of shells and grammars, as a shell hands them over."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Command
from mshnet_pl import config
from mshnet_pl.cli.quoting import example, quoted, value_of
from tiny import TINY_RUN

SIGNS = (
    "own",
    "run",
    " ",
    "(",
    ")",
    ",",
    "=",
    "[",
    "]",
    "{",
    "}",
    "'",
    '"',
    "$",
    "零件",
    "&",
    ";",
    "#",
    "!",
    ":",
    "\\",
    "é",
    "1",
    "+",
)
STRANGE = "own (2024), [a]=零件 $1 'x'"


def names(count: int) -> list[str]:
    """Random texts, of those that are neither in quotes nor refer to another setting."""
    rng = random.Random(0)
    made = ("".join(rng.choices(SIGNS, k=rng.randrange(1, 6))) for _ in range(count))
    return [name for name in made if "${" not in name and not (name[0] == name[-1] and name[0] in "'\"")]


def test_a_text_is_what_was_typed() -> None:
    plain = ("1_000", "1e3", "007", "true", "own(2024)", "range(1,3)", "a,b", "a\\", '\\"', " own ", STRANGE)
    for name in (*plain, *names(300)):
        (argument,) = quoted([f"data.root={name}"])
        assert value_of("data.root", [argument]) == name and quoted([argument]) == [argument]
    raw = config.compose(*quoted([f"data.root={STRANGE}", "data.source.seed=3", "runs=a=b"]))
    assert (raw.data.root, raw.data.source.seed, raw.runs) == (STRANGE, 3, "a=b")


def test_what_hydra_reads_stays_as_it_is() -> None:
    same = [
        "data.root=null",
        'data.root="a b"',
        "data.root=${runs}",
        "shot=1,5",
        "fold=range(0,4)",
        "test.seeds=[0,1]",
        "~val",
    ]
    assert quoted(same) == same
    sweep = ["-m", "data.root=a,b", "--config-dir=a,b"]
    assert quoted(sweep) == sweep


def test_elements_of_lists_and_sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert quoted(["data.source.novel=[nut (1),零件,pin]"]) == ['data.source.novel=["nut (1)","零件",pin]']
    assert quoted(["-m", "data.root=a (1),b"]) == ["-m", 'data.root="a (1)",b']
    monkeypatch.chdir(tmp_path)
    Path("a, b").mkdir()
    assert quoted(["-m", "data.root=a, b"]) == ["-m", 'data.root="a, b"']


def test_the_users_folder_is_found_whatever_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/own (1)")
    monkeypatch.chdir(tmp_path)
    for key in ("runs", "ckpt", "init_from", "data.root", "query"):
        assert value_of(key, quoted([f"{key}=~/a b"])) == "/home/own (1)/a b"
    assert value_of("runs", quoted(["runs=~no-such-user/x"])) == "~no-such-user/x" and quoted(["~val"]) == ["~val"]
    Path("~").mkdir()
    assert value_of("runs", quoted(["runs=~"])) == "~"


def test_what_cannot_be_read_is_shown_in_its_quotes(command: Command) -> None:
    for argument, typed in (
        ("shot=1,5", "'shot=[1,5]'"), ("data.source.novel=a,b", "'data.source.novel=[a,b]'"),
        ("test.seeds=[0,1", """'test.seeds="[0,1"'"""), ("fold=range(0,4", """'fold="range(0,4"'"""),
    ):  # fmt: skip
        done = command("mshnet-train", argument)
        assert done.code == 2 and typed in done.err and "hydra.cc" not in done.err, done.err
    assert example("data.root=own (2024)") == """'data.root="own (2024)"'"""


def test_a_network_is_trained_and_tested_at_strange_places(command: Command, tmp_path: Path) -> None:
    """Data, runs and checkpoints whose names Hydra's grammar does not know; Lightning itself names files so."""
    for name in ("nut", "pin"):
        for i in range(8):
            mask = np.zeros((32, 32), np.uint8)
            mask[4 : 12 + i, 4:20] = 255
            for part in ("images", "masks"):
                path = tmp_path / STRANGE / name / part / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).convert("RGB" if part == "images" else "L").save(path)
    own = ("data=folder", f"data.root={STRANGE}", "data.source.folds=2", "data.source.val_fraction=0.5", "fold=0")
    network = ("backbone=efficientnet_lite0", "recipe=demo", "model.width=4", *TINY_RUN)
    done = command("mshnet-train", *own, *network, f"runs=runs of {STRANGE}")
    assert done.code == 0, done.err
    (path,) = (tmp_path / f"runs of {STRANGE}").rglob("last.ckpt")
    shutil.copy(path, f"{STRANGE} epoch=3-step=80.ckpt")
    done = command(
        "mshnet-test",
        f"ckpt={STRANGE} epoch=3-step=80.ckpt",
        f"data.root={STRANGE}",
        "runs=tested",
        "trainer.accelerator=cpu",
    )
    assert done.code == 0 and [*Path("tested").rglob("result.json")], done.err
    report = command("mshnet-report", f"runs of {STRANGE}", "tested")
    assert report.code == 0, report.err
    places = (f"support='{STRANGE}/pin'", f"query={STRANGE}/nut/images", f'out="{STRANGE} out"')
    done = command("mshnet-predict", f"ckpt={path}", *places)
    assert done.code == 0 and Path(f"{STRANGE} out").is_dir(), done.err
