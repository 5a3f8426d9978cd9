"""Result files to a table: a row a method and number of shots, a column a fold."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from mshnet_pl import results
from mshnet_pl.errors import DataError
from mshnet_pl.results import Measurement, Result


class _Row(NamedTuple):
    method: str
    weights: str
    trained: int
    tested: int
    protocol: str


def collect(folders: Iterable[Path]) -> list[Result]:
    """All results below ``folders``.

    Raises:
        DataError: there is none.
        ConfigError: a damaged one.
    """
    folders = list(folders)
    paths = sorted({path for folder in folders for path in folder.rglob(results.FILE)})
    if not paths:
        raise DataError(f"no {results.FILE} below {', '.join(map(str, folders))}; run mshnet-train first")
    return [results.load(path) for path in paths]


def markdown(runs: Sequence[Result]) -> str:
    """A Markdown table: mIoU of every fold (mean over seeds), their mean, and FB-IoU, in percent.

    The first rows are what needs no training: everything called foreground, and the untrained network.
    """
    miou: dict[_Row, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    fb_iou: dict[_Row, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    parameters: dict[str, int] = {}
    for result in runs:
        fold = int(result.config["fold"])
        for test in result.tests:
            row = _row(result, test)
            miou[row][fold].append(test.miou)
            fb_iou[row][fold].append(test.fb_iou)
            parameters[row.method] = result.learnable_parameters
            everything = row._replace(method="everything foreground", weights="", trained=0)
            miou[everything][fold].append(test.everything_foreground_miou)
    folds = sorted({fold for cells in miou.values() for fold in cells})
    head = ["method", "weights", "trained", "tested", *(f"fold {f}" for f in folds), "mIoU", "FB-IoU", "learnable"]
    table = [head, ["---"] * 4 + ["---:"] * (len(folds) + 3)]
    for row in sorted(miou, key=_order):
        table.append(
            [
                row.method,
                row.weights,
                f"{row.trained}-shot" if row.trained else "",
                f"{row.tested}-shot" + (" published" if row.protocol == "published" else ""),
                *_cells(miou[row], folds),
                _cells(fb_iou[row], folds)[-1] if row in fb_iou else "",
                f"{parameters[row.method]:,}" if row.method in parameters else "",
            ]
        )
    widths = [max(len(line[i]) for line in table) for i in range(len(head))]
    return "\n".join("| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in table)


def _row(result: Result, test: Measurement) -> _Row:
    trained = int(result.config["shot"]) if test.weights in ("best", "last") else 0
    return _Row(_method(result), test.weights, trained, test.shot, test.protocol)


def _method(result: Result) -> str:
    """``MSHNet cosine+prototype, ResNet-50`` and the like."""
    model, backbone = result.config["model"], result.config["backbone"]
    name = model["_target_"].rpartition(".")[2]
    if "similarities" in model:
        name += " " + "+".join(model["similarities"])
    depth = f"-{backbone['depth']}" if "depth" in backbone else ""
    return f"{name}, {backbone['_target_'].rpartition('.')[2]}{depth}"


def _order(row: _Row) -> tuple[int, bool, bool, _Row]:
    return (row.tested, row.method != "everything foreground", row.weights != "untrained", row)


def _cells(by_fold: dict[int, list[float]], folds: Sequence[int]) -> list[str]:
    """Each fold's mean, and the mean over folds if all are there."""
    means = [fmean(by_fold[f]) if by_fold.get(f) else None for f in folds]
    known = [m for m in means if m is not None]
    return [
        *("-" if m is None else f"{m:.1f}" for m in means),
        f"{fmean(known):.1f}" if len(known) == len(folds) else "-",
    ]
