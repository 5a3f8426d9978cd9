"""What control episodes say of a row, in words."""

from collections.abc import Iterator

from mshnet_pl.report import controls
from mshnet_pl.report.row import Cell, Row

_WORDS = {
    "own_miou": "mIoU with the class's own supports",
    "other_class_miou": "with another class's",
    "presence_auroc": "AUROC of presence",
    "which_of_two": "right of two classes' pixels",
}


def notes(row: Row) -> Iterator[str]:
    """A sentence a number of shots: means over folds and seeds, with intervals over query images."""
    for shot in row.shots:
        tests = [one for fold in row.folds(shot) for one in row.tests[Cell(shot, fold)].values() if one.test.controls]
        files = [path for one in tests if (path := one.controls_file)]
        if len(files) < len(tests):
            yield f"no control episodes for {row.label}, {shot}-shot: their counts (controls_*.csv) are not all there"
        elif files:
            rows = [controls.read(path) for path in files]
            found = controls.intervals(rows)
            said = [f"{_WORDS[name]} {value:.1f} [{low:.1f}, {high:.1f}]" for name, (value, low, high) in found.items()]
            episodes = sum(len(of_test) for of_test in rows)
            yield f"control episodes of {row.label}, {shot}-shot ({episodes:,}): {', '.join(said)}"
