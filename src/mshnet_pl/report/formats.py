"""Tables as Markdown, LaTeX or CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mshnet_pl.report.bootstrap import Estimate
from mshnet_pl.report.collection import FailedRun
from mshnet_pl.report.episode_images import Behind
from mshnet_pl.report.row import FoldName, Row
from mshnet_pl.utils.text import escaped

_LATEX = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
_COLUMNS = (
    "table", "source", "weights", "trained", "backbone", "method", "settings", "shot", "fold", "training_seeds", "tests",
    "query_images", "support_images",
    "miou", "miou_low", "miou_high", "fb_iou", "fb_iou_low", "fb_iou_high", "trainable",
)  # fmt: skip


class CellScores(NamedTuple):
    """The scores of a fold, or their mean over folds; None where not known."""

    miou: Estimate | None = None
    fb_iou: Estimate | None = None
    training_seeds: int = 0
    """The fewest that a fold has; 0 for published scores, as below."""
    tests: int = 0
    images: Behind | None = None
    """Distinct images behind a fold's scores; None for their mean, as well."""


class Shots(NamedTuple):
    """What a line says about a number of shots."""

    folds: tuple[CellScores, ...]
    mean: CellScores

    @property
    def columns(self) -> list[Estimate | None]:
        """The folds' mIoU, its mean, FB-IoU."""
        return [*(fold.miou for fold in self.folds), self.mean.miou, self.mean.fb_iou]


@dataclass(frozen=True)
class Line:
    """A line of a table."""

    backbone: str
    method: str
    shots: dict[int, Shots]
    parameters: int | None
    """Learnable ones."""
    row: Row | None = None
    """Where its numbers come from; None for published ones."""

    @property
    def name(self) -> str:
        """The method, and the mark of the note that names its settings where other lines have others."""
        return f"{self.method} {self.row.mark}".strip() if self.row else self.method

    @property
    def words(self) -> list[str]:
        """Its columns before the numbers."""
        return [self.backbone, self.name, self.row.weights if self.row else "published"]

    @property
    def trainable(self) -> str:
        """Learnable parameters as they are known: to the last one, or published in millions."""
        if self.parameters is None:
            return ""
        return f"{self.parameters:,}" if self.row else f"{self.parameters / 1e6:.1f} M"


@dataclass(frozen=True)
class Table:
    """A data set's results beside the published ones."""

    title: str
    folds: list[FoldName]
    shots: list[int]
    lines: list[Line]
    explanations: list[str] = field(default_factory=list)
    """What marks mean, what was left out."""
    missing: list[str] = field(default_factory=list)
    """Cells without a result, and why."""
    failures: list[FailedRun] = field(default_factory=list)
    """Those that ``missing`` names."""

    @property
    def notes(self) -> list[str]:
        """What is written below."""
        return self.explanations + self.missing

    @property
    def blank(self) -> Shots:
        """What a line without a number of shots shows there."""
        return Shots((CellScores(),) * len(self.folds), CellScores())


def cells(table: Table) -> list[list[str]]:
    """The head, and a line a method and number of shots; intervals beside the means."""
    body = [
        ["backbone", "method", "weights", "tested", *(f"fold {fold}" for fold in table.folds), "mIoU", "FB-IoU", "trainable"]
    ]
    for shot in table.shots:
        for line in table.lines:
            if shot in line.shots:
                numbers = _numbers(line.shots[shot])
                body.append([*line.words, f"{shot}-shot", *numbers, line.trainable])
    return body if any(line.backbone for line in table.lines) else [line[1:] for line in body]


def markdown(table: Table) -> str:
    """A Markdown table of ``cells``, with the notes below it."""
    head, *lines = cells(table)
    numbers = len(table.folds) + 3
    rule = ["---"] * (len(head) - numbers) + ["---:"] * numbers
    title = [f"### {escaped(table.title)}", ""] if table.title else []
    notes = ["", *(f"- {escaped(note)}" for note in table.notes)] if table.notes else []
    return "\n".join([*title, aligned([head, rule, *lines]), *notes])


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """The cells of a Markdown table, as ``escaped``, in columns that are as wide as their widest cell."""
    lines = [[escaped(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines)


def latex(table: Table) -> str:
    """A ``table*`` for the package ``booktabs`` in the paper's shape: numbers of shots side by side."""
    width = len(table.folds) + 2
    starts = [4 + i * width for i in range(len(table.shots))]
    shots = [rf"\multicolumn{{{width}}}{{c}}{{{shot}-shot}}" for shot in table.shots]
    numbers = [*map(str, table.folds), "mIoU", "FB-IoU"] * len(shots)
    body = [
        [*line.words, *(n for s in table.shots for n in _numbers(line.shots.get(s, table.blank))), line.trainable]
        for line in table.lines
    ]
    return "\n".join(
        [
            r"\begin{table*}",
            r"\centering",
            rf"\caption{{{_latex(table.title)}}}",
            rf"\begin{{tabular}}{{lll{'r' * (width * len(shots) + 1)}}}",
            r"\toprule",
            " & ".join(["", "", "", *shots, ""]) + r" \\",
            " ".join(rf"\cmidrule(lr){{{start}-{start + width - 1}}}" for start in starts),
            " & ".join(["backbone", "method", "weights", *numbers, "trainable"]) + r" \\",
            r"\midrule",
            *(" & ".join(map(_latex, cells)) + r" \\" for cells in body),
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\footnotesize {_latex(note)}" for note in table.notes),
            r"\end{table*}",
        ]
    )


def comma_separated(tables: Sequence[Table]) -> str:
    """One CSV of all tables: a record a cell and a record a mean over folds, at full precision; empty where not known.

    Text that a spreadsheet would compute, as it begins with ``=``, ``+``, ``-`` or ``@``, has a single quote before it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for table in tables:
        for line in table.lines:
            row = line.row
            settings = "; ".join(f"{name}={value}" for name, value in row.differences.items()) if row else ""
            source = ("measured", row.key.weights, row.key.trained) if row else ("published", "", "")
            for shot, known in line.shots.items():
                for fold, scores in zip([*table.folds, "mean"], [*known.folds, known.mean], strict=True):
                    if scores.miou:
                        texts = [table.title, *source, line.backbone, line.method, settings]
                        what = [*map(_not_a_formula, texts), shot, fold]
                        counts = [scores.training_seeds or None, scores.tests or None, *(scores.images or (None, None))]
                        writer.writerow([*what, *counts, *scores.miou, *(scores.fb_iou or (None,) * 3), line.parameters])
    return text.getvalue().rstrip()


def _numbers(shots: Shots) -> list[str]:
    """The columns as text; intervals beside the means, or beside the folds where some are missing."""
    *folds, miou, fb_iou = shots.columns
    return [*(_text(fold, bare=miou is not None) for fold in folds), _text(miou), _text(fb_iou)]


def _text(estimate: Estimate | None, bare: bool = False) -> str:
    if estimate is None:
        return "-"
    value, low, high = estimate
    return f"{value:.1f}" if bare or low is None else f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _not_a_formula(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
