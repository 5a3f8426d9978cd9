"""What a terminal of 100 columns shows: tables, a sweep's own jobs, and nothing that steers it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import Command
from mshnet_pl import report
from mshnet_pl.errors import DataError, on_screen, one_line
from mshnet_pl.report import terminal
from mshnet_pl.report.collection import collect
from report_runs import write_sweep
from tiny import TINY, TINY_RUN


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


HOSTILE = "a\x1b[31mb\x07\x9b5n\x7f"
SHOWN = r"a\x1b[31mb\x07\x9b5n\x7f"


def test_nothing_of_a_stranger_steers_the_terminal(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    """Class names, file names and values of lists and annotations, in messages, logs and listings."""
    own = tmp_path / "own"
    own.mkdir()
    for name in ("a.png", f"{HOSTILE}.png", f"{HOSTILE}.txt"):
        Image.new("RGB", (40, 40), "gray").save(own / name, "PNG")
    Image.fromarray(np.eye(40, dtype=np.uint8) * 255).save(tmp_path / "mask.png")
    (own / f"{HOSTILE}bad.png").write_bytes(b"no image")
    (own / f"{HOSTILE}\nline.png").write_bytes(b"no image")
    square = {"label": f"{HOSTILE}\nline", "shape_type": "rectangle", "points": [[5, 5], [20, 20]]}
    shapes = [square, {**square, "shape_type": HOSTILE}]
    (own / "a.json").write_text(json.dumps({"shapes": shapes, "imagePath": "a.png"}))
    (own / "bad.json").write_text(json.dumps({"shapes": shapes[1:], "imagePath": "a.png"}))
    rows = [{"image": "a.png", "mask": "../mask.png", "class": f"{HOSTILE}{number}"} for number in range(9)]
    (own / "list.json").write_text(json.dumps(rows))
    (own / "odd.json").write_text(json.dumps([{**rows[0], "split": HOSTILE}]))
    for code, name, *arguments in (
        (1, "predict", f"ckpt={checkpoint}", "support=own/a.json", "query=own", "out=out"),
        (2, "predict", f"ckpt={checkpoint}", "support=own/bad.json", "query=own", "out=other"),
        (2, "train", *TINY_RUN, "data=folder", f"data.source.manifest={own}/odd.json"),
        (2, "train", *TINY_RUN, "data=folder", f"data.source.manifest={own}/list.json", "fold=all", "data.min_images=2"),
    ):
        done = command(f"mshnet-{name}", *arguments)
        assert done.code == code and "Traceback" not in done.err, done.err
        assert SHOWN in done.err and not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.out + done.err), done.err
        assert "\nline" not in done.err
    for log in tmp_path.rglob("*.log"):
        assert "\x1b" not in log.read_text()


def test_a_message_keeps_its_own_lines() -> None:
    assert one_line(f"{HOSTILE}\n") == rf"{SHOWN}\n" and on_screen(f"é 零\n{HOSTILE}") == f"é 零\n{SHOWN}"
    assert str(DataError.listing("Two:", ["a\nb", HOSTILE], "Mend them.")) == f"Two:\n  a\\nb\n  {SHOWN}\nMend them."


def test_what_a_result_file_says_does_not_steer_the_terminal() -> None:
    table = report.formats.Table(f"T {HOSTILE}", [], [], [], [f"note {HOSTILE}"])
    for text in (terminal.text(table, 100), report.formats.markdown(table), report.formats.aligned([[HOSTILE]])):
        assert SHOWN in text and "\x1b" not in text and "\x07" not in text
