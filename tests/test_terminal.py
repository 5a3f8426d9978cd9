"""What a terminal of 100 columns shows: tables, and a sweep's own jobs."""

from pathlib import Path

import pytest

from conftest import Command
from mshnet_pl import report
from mshnet_pl.report import terminal
from mshnet_pl.report.collection import collect
from report_runs import write_sweep
from tiny import TINY


@pytest.mark.parametrize("width", [120, 100])
def test_a_table_fits_the_terminal(width: int, tmp_path: Path) -> None:
    """Nothing of a number is cut; intervals stand below their values."""
    write_sweep(tmp_path)
    found = collect([tmp_path])
    for table in report.tables.tables(found.tests, found.failures):
        text = terminal.text(table, width)
        assert max(map(len, text.splitlines())) <= width
        for line in report.formats.cells(table)[1:]:
            for cell in line[-len(table.folds) - 3 :]:
                for part in cell.replace("[", "").replace("]", "").split(", "):
                    assert all(number in text for number in part.split())


def test_a_sweep_checks_what_its_jobs_share_and_prints_them_alone(command: Command, tmp_path: Path) -> None:
    wrong = command("mshnet-train", "-m", "data=pascal5i", "data.root=/nowhere", "fold=range(0,4)", "shot=1,5")
    assert wrong.code == 2 and wrong.err.count("data.root=/nowhere") == 2 and wrong.err.count("error:") == 1, wrong.err
    assert not [*tmp_path.rglob("error.json")]
    assert command("mshnet-train", *TINY, "seed=3").code == 0
    done = command("mshnet-train", "-m", *TINY, "fold=1,2")
    assert done.code == 0, done.err
    assert "job 1 of 2: fold=1\n" in done.err and "2 of 2 jobs ended, 0 left" in done.err
    last = done.out.rpartition("| method")[2]
    assert "fold 1" in last and "fold 2" in last and "fold 0" not in last
    assert "next:\n  mshnet-report runs" in done.err and "trainable" in (next(tmp_path.rglob("mshnet.log"))).read_text()
