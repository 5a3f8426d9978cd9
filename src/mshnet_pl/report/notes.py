"""What is odd about results that are right by themselves: edited, without some data, or mixed with others."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from mshnet_pl import results
from mshnet_pl.report.grouping import rows
from mshnet_pl.report.measured import Measured
from mshnet_pl.report.row import Row


def doubts(tests: Iterable[Measured]) -> list[str]:
    """What a reader should know of results, though their numbers follow from their counts; a line each."""
    tests = list(tests)
    found = []
    for folder, result in {one.folder: one.result for one in tests if one.folder is not None}.items():
        path = folder / results.FILE
        if result.content_sha256 is not None and results.content_digest(path) != result.content_sha256:
            found.append(f"{path} was edited after it was written")
        if result.bad_files:
            found.append(f"{path} went without {len(result.bad_files)} bad images: {', '.join(sorted(result.bad_files))}")
        for key, what in (("skipped_steps", "steps that were not finite"), ("replaced_episodes", "training episodes")):
            if result.training.get(key):
                found.append(f"{path} left out {result.training[key]} {what}")
        if trained := result.training.get("tested_classes_trained"):
            found.append(f"{path} tests classes that its network was trained on: {', '.join(trained)}")
        steps, planned = (result.training.get(key, 0) for key in ("steps", "planned_steps"))
        if steps < planned:
            found.append(f"{path} stopped after {steps} of {planned} steps")
    return found + [line for row in rows(tests) if not row.is_baseline for line in _mixed(row)]


def _mixed(row: Row) -> Iterator[str]:
    """Tests of one fold, number of shots and test seed that were not measured on the same episodes."""
    for cell in row.cells:
        measured: dict[int, dict[str, Path | None]] = defaultdict(dict)
        for seeds, one in row.tests[cell].items():
            measured[seeds.test].setdefault(one.test.episodes_sha256, one.folder)
        for seed, folders in measured.items():
            if len(folders) > 1:
                listed = ", ".join(f"{name[:8]} in {folder}" for name, folder in folders.items())
                yield f"fold {cell.fold}, {cell.shot}-shot, test seed {seed} of {row.label}: different episodes, {listed}"
