"""The recorded experiments: their result files stay readable, and their pages say what those files say."""

import re
import shlex
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from conftest import ROOT, Command
from mshnet_pl import results
from recorded import experiments

EXPERIMENTS = experiments()
PRINTED = re.compile(r"<!-- (.+?) -->\n\n(.*?)\n\n<!-- end -->", re.DOTALL)
"""What a page shows of a command's output, word by word, and before it the command, run in the page's folder."""


RECORDED = sorted(EXPERIMENTS.rglob("result.json"))
GROUPS = sorted({path.parents[1].relative_to(EXPERIMENTS).as_posix() for path in RECORDED})
PAGES = [
    ROOT / name for name in ("experiments/pascal5i_mini/README.md", "experiments/full_benchmark.md", "docs/intervals.md")
]


def only_first_fast(cases: list[tuple[object, ...]]) -> list[Any]:
    """The first case, and the others as slow ones."""
    return [pytest.param(*case, id=f"{case[0]}-{i}", marks=[pytest.mark.slow] * (i > 0)) for i, case in enumerate(cases)]


def test_recorded_results_stay_readable() -> None:
    """Those of this project's experiments, of which some were written before results said all that they say today."""
    assert RECORDED and all(results.load(path).tests for path in RECORDED)


@pytest.mark.parametrize("experiment", only_first_fast([(name,) for name in GROUPS]))
def test_the_report_says_what_was_recorded(command: Command, experiment: str) -> None:
    folder = EXPERIMENTS / experiment
    done = command("mshnet-report", folder, "format=csv")
    assert done.code == 0 and "cannot be right" not in done.err
    for path in folder.glob("*/result.json"):
        tests = results.load(path).tests
        for shot in {test.shot for test in tests}:
            assert str(fmean(test.miou for test in tests if test.shot == shot)) in done.out


PRINTED_BY = [[(page, *found) for found in PRINTED.findall(page.read_text())] for page in PAGES]


@pytest.mark.parametrize(("page", "line", "shown"), [case for cases in PRINTED_BY for case in only_first_fast(cases)])
def test_pages_show_what_their_commands_print(
    command: Command, monkeypatch: pytest.MonkeyPatch, page: Path, line: str, shown: str
) -> None:
    monkeypatch.chdir(EXPERIMENTS.parent / page.parent.relative_to(ROOT))
    done = command(*shlex.split(line))
    assert done.code == 0, done.err
    assert shown in done.out, f"{page}: {line} prints something else"


@pytest.mark.parametrize(("page", "cases"), [*zip(PAGES, PRINTED_BY, strict=True)], ids=[page.name for page in PAGES])
def test_pages_name_their_commands(page: Path, cases: list[object]) -> None:
    assert len(cases) == page.read_text().count("<!-- end -->") > 0
