"""Rows to the paper's tables: published lines and our own, and what is missing."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from mshnet_pl.report import classes, control_notes
from mshnet_pl.report.bootstrap import LEVEL
from mshnet_pl.report.collection import FailedRun
from mshnet_pl.report.counts import FB_IOU, MIOU
from mshnet_pl.report.episode_images import Behind, EpisodeImages, few, single
from mshnet_pl.report.formats import CellScores, Line, Shots, Table
from mshnet_pl.report.grouping import order, rows
from mshnet_pl.report.measured import Measured
from mshnet_pl.report.published import published
from mshnet_pl.report.row import AS_TESTED, EVERY_CLASS, Cell, FoldName, Row, named_folds, sorted_folds
from mshnet_pl.results import Result

_FOLDS = {"Pascal5i": 4, "Coco20i": 4, "Synthetic": 4}
TITLES = {
    "Pascal5i": "PASCAL-5i",
    "Coco20i": "COCO-20i",
    "Fss1000": "FSS-1000",
    "Synthetic": "Synthetic images",
    "Folder": "Own images",
}
_TABLES = {"Pascal5i": " (Table 2 of the paper)", "Coco20i": " (Table 3 of the paper)"}
_SINGLE = ", single similarities (Table 4 of the paper)"
INTERVALS = (
    f"mIoU and FB-IoU in percent. {LEVEL}% intervals cover the choice of the test episodes' images and, where folds were "
    "trained with several seeds, how trainings vary; with one training seed they do not. docs/intervals.md says more."
)


def tables(tests: Sequence[Measured], failures: Sequence[FailedRun] = ()) -> list[Table]:
    """A table a data set, and on PASCAL-5i one of single similarities where such were measured."""
    by_data: dict[str, list[Row]] = defaultdict(list)
    for row in rows(tests):
        by_data[row.key.data].append(row)
    found = []
    for data, group in by_data.items():
        title = TITLES.get(data, data)
        single = [row for row in group if _similarities(row) == 1] if published(data, single=True) else []
        main = [row for row in group if row not in single]
        if any(not row.is_baseline for row in main):
            found.append(_table(title + _TABLES.get(data, ""), main, [], published(data), failures))
        if single:
            both = [row for row in main if row.is_baseline or (_similarities(row) == 2 and row.variant == "full")]
            found.append(_table(title + _SINGLE, single, both, published(data, single=True), failures))
    return found


def learned(tables: Sequence[Table]) -> list[Row]:
    """The rows of networks that learned something or need not, each once."""
    shown = {id(line.row): line.row for table in tables for line in table.lines if line.row}
    return [row for row in shown.values() if row.is_trained or row.key.weights == "training-free"]


def by_class(tables: Sequence[Table]) -> list[str]:
    """The IoU of every class as Markdown, a table a data set and number of shots: a line a class, a column a row."""
    return [
        classes.markdown(f"{TITLES.get(found.data, found.data)}, {found.shot}-shot, IoU of every class", found)
        for found in classes.class_scores(learned(tables))
    ]


def scores(runs: Sequence[Result]) -> Table:
    """The scores of results alone: no published lines, no intervals."""
    own = rows([Measured(result, test) for result in runs for test in result.tests])
    folds = sorted_folds(cell.fold for row in own for cell in row.tests)
    return Table("", folds, sorted({shot for row in own for shot in row.shots}), _lines(own, folds))


def unexplained(tables: Sequence[Table], failures: Sequence[FailedRun]) -> list[FailedRun]:
    """Failures that no table's notes name."""
    return [failure for failure in failures if not any(failure in table.failures for table in tables)]


def _similarities(row: Row) -> int:
    return len(row.results[0].config["model"].get("similarities", ())) if not row.is_baseline else 0


def _table(title: str, own: list[Row], beside: list[Row], reference: list[Line], failures: Sequence[FailedRun]) -> Table:
    """A table of ``own`` rows, which its notes speak of, and of rows ``beside`` them."""
    backbones = {row.key.backbone for row in own}
    reference = [line for line in reference if line.backbone in backbones] or reference
    data = own[0].key.data
    shown = sorted([*beside, *own], key=order)
    folds = sorted_folds([*range(_FOLDS.get(data, 0)), *(cell.fold for row in shown for cell in row.tests)])
    reference = [_with_empty(line, len(folds)) for line in reference]
    lines = sorted([*_lines(shown, folds), *reference], key=lambda line: (line.backbone, line.row is not None))
    shots = sorted({shot for line in lines for shot in line.shots})
    explanations = [*dict.fromkeys(f"{row.mark}: {_text(row)}" for row in shown if row.mark)]
    missing: list[str] = []
    named: list[FailedRun] = []
    for row in own:
        explanations += [f"left out of {row.label}: {old.folder}, as there is a newer result" for old in row.superseded]
        explanations += control_notes.notes(row) if not row.is_baseline else ()
        if any(one.counts_file is None for one in row.measured):
            explanations.append(f"no interval for {row.label}: the pixel counts of its episodes are not all there")
        elif any(one.images is None for one in row.measured):
            explanations.append(
                f"no interval over images for {row.label}: the names of its episodes' images are not all there"
            )
        if row.is_baseline or row.key.weights == "untrained":
            continue
        for shot in shots if row.key.trained in ("", AS_TESTED, EVERY_CLASS) else row.shots:
            without = [fold for fold in row.averaged(folds) if Cell(shot, fold) not in row.tests]
            failed = {f: failure for f in without for failure in failures if _is_of(failure, row, Cell(shot, f))}
            missing += _missing(row, shot, [fold for fold in without if fold not in failed], failed)
            named += failed.values()
    explanations += _images(shown)
    return Table(title, folds, shots, lines, explanations, missing, named)


def _with_empty(line: Line, folds: int) -> Line:
    """Published scores of four folds in a table that has one of all classes, too."""
    empty = (CellScores(),)
    return replace(
        line, shots={n: s._replace(folds=s.folds + empty * (folds - len(s.folds))) for n, s in line.shots.items()}
    )


def _images(shown: Sequence[Row]) -> Iterator[str]:
    """How many images stand behind the rows of every number of shots, and a warning where those are few."""
    behind: dict[int, dict[FoldName, set[Behind]]] = defaultdict(lambda: defaultdict(set))
    of_tests: dict[int, list[tuple[FoldName, EpisodeImages]]] = defaultdict(list)
    for row in shown:
        for cell in row.cells if not row.is_baseline else ():
            of_tests[cell.shot] += [(cell.fold, own) for one in row.tests[cell].values() if (own := one.images)]
            if images := row.images(cell):
                behind[cell.shot][cell.fold].add(images)
    for shot, by_fold in sorted(behind.items()):
        known = [(fold, images) for fold in sorted_folds(by_fold) for images in sorted(by_fold[fold])]
        listed = "; ".join(f"fold {fold}: {images}" for fold, images in known)
        yield f"distinct images behind {shot}-shot scores, {listed}"
        yield from few(known)
        yield from (f"{shot}-shot: {line}" for line in single(of_tests[shot]))


def _lines(own: Sequence[Row], folds: Sequence[FoldName]) -> list[Line]:
    """A line a row."""
    return [
        Line(
            row.key.backbone,
            row.key.method,
            {shot: _shots(row, shot, folds) for shot in row.shots},
            None if row.is_baseline else row.results[0].learnable_parameters,
            row,
        )
        for row in own
    ]


def _shots(row: Row, shot: int, folds: Sequence[FoldName]) -> Shots:
    return Shots(tuple(_scores(row, shot, [fold]) for fold in folds), _scores(row, shot, row.averaged(folds)))


def _scores(row: Row, shot: int, folds: Sequence[FoldName]) -> CellScores:
    groups = [row.tests.get(Cell(shot, fold), {}) for fold in folds]
    seeds = min(len({s.training for s in group}) for group in groups)
    miou, fb_iou = (row.estimate(shot, folds, score) for score in (MIOU, FB_IOU))
    images = row.images(Cell(shot, folds[0])) if len(folds) == 1 else None
    return CellScores(miou, fb_iou, seeds, sum(map(len, groups)), images)


def _text(row: Row) -> str:
    return ", ".join(f"{name}={value}" for name, value in row.differences.items())


def _is_of(failure: FailedRun, row: Row, cell: Cell) -> bool:
    """Whether the run that failed would have given this cell of the row."""
    settings = failure.settings
    siblings = {test.folder.parent for tests in row.tests.values() for test in tests.values() if test.folder}
    return (
        failure.folder.parent in siblings
        and (settings.get("shot", "1"), settings.get("fold", "0")) == (str(cell.shot), str(cell.fold))
        and settings.get("ablation", settings.get("variant", "full")) == row.variant
        and all(row.settings.get(name, value) == value for name, value in settings.items())
    )


def _missing(row: Row, shot: int, folds: Sequence[FoldName], failed: Mapping[FoldName, FailedRun]) -> Iterator[str]:
    if folds:
        yield f"missing: {named_folds(folds)}, {shot}-shot of {row.label}"
    for fold, failure in failed.items():
        yield f"missing: fold {fold}, {shot}-shot of {row.label}, failed: {failure.message}"
