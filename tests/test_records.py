"""The recorded experiments: their result files stay readable, and their pages say what those files say."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest

from conftest import ROOT, Command
from mshnet_pl import results

EXPERIMENTS = ROOT / "experiments"
PRINTED = re.compile(r"<!-- (.+?) -->\n\n(.*?)\n\n<!-- end -->", re.DOTALL)
"""What a page shows of a command's output, word by word, and before it the command, run in the page's folder."""


def test_recorded_results_stay_readable(command: Command) -> None:
    """Those of this project's experiments, of which some were written before results said all that they say today."""
    recorded = sorted(EXPERIMENTS.rglob("result.json"))
    assert recorded
    for experiment in sorted({path.parents[1] for path in recorded}):
        done = command("mshnet-report", experiment, "--format", "csv")
        assert done.code == 0 and "cannot be right" not in done.err
        for path in recorded:
            if path.parents[1] == experiment:
                tests = results.load(path).tests
                for shot in {test.shot for test in tests}:
                    assert str(fmean(test.miou for test in tests if test.shot == shot)) in done.out


@pytest.mark.parametrize("page", [EXPERIMENTS / name for name in ("pascal5i_mini/README.md", "full_benchmark.md")])
def test_pages_show_what_their_commands_print(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(page.parent)
    printed = PRINTED.findall(page.read_text())
    assert len(printed) == page.read_text().count("<!-- end -->") > 0
    for line, shown in printed:
        name, *arguments = shlex.split(line)
        program = [sys.executable] if name == "python" else [Path(sys.executable).with_name(name)]
        done = subprocess.run([*program, *arguments], capture_output=True, text=True, check=True)
        assert shown in done.stdout, f"{page}: {line} prints something else"
