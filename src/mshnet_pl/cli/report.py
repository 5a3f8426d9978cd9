"""The command line of ``mshnet-report``."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig

from mshnet_pl.cli.arguments import errors_end_it
from mshnet_pl.cli.entry import entry
from mshnet_pl.errors import ConfigError
from mshnet_pl.report import compare, figures, formats, page, power
from mshnet_pl.report.collection import CollectedRuns, FailedRun, collect
from mshnet_pl.report.formats import Table
from mshnet_pl.report.notes import doubts
from mshnet_pl.report.tables import INTERVALS, by_class, tables, unexplained
from mshnet_pl.utils.files import write_whole


@entry
def main() -> None:
    """``mshnet-report FOLDER...``, ``compare A B``, ``power A B`` or ``energy ckpt=...``."""
    command, *arguments = sys.argv[1:] or [""]
    if command == "energy":
        from mshnet_pl.cli import hydra_jobs

        del sys.argv[1]
        return hydra_jobs.run_on_checkpoint(_energy, "energy")
    with errors_end_it():
        if command == "compare":
            _compare(arguments)
        elif command == "power":
            _power(arguments)
        else:
            _report(sys.argv[1:])


def _energy(raw: DictConfig) -> None:
    from mshnet_pl.runs import energy
    from mshnet_pl.runs.job import Run

    print(energy.make(Run.of(raw)))


def _report(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="mshnet-report",
        description="Collect all results below folders into the paper's tables, a page and pictures of episodes.",
        epilog="'mshnet-report compare A B' compares two runs on the same episodes. " + INTERVALS.replace("%", "%%"),
    )
    parser.add_argument("folder", type=Path, nargs="+", help="folders with results, searched at any depth")
    parser.add_argument(
        "--format", choices=_FORMATS, help="print the tables in this format and write no file (default: markdown, and files)"
    )
    parser.add_argument("--html", type=Path, help="the page's file (default: report.html in the first FOLDER)")
    parser.add_argument("--pictures", type=Path, help="where episodes_Kshot.png go (default: the first FOLDER)")
    parser.add_argument("--episodes", type=int, default=1, help="how many of a kind of each test are drawn (default: 1)")
    parser.add_argument("--masks-only", action="store_true", help="draw episodes without their photographs")
    parser.add_argument("--classes", action="store_true", help="print the IoU of every class, too (markdown only)")
    chosen = parser.parse_args(arguments)
    if chosen.classes and chosen.format not in (None, "markdown"):
        raise ConfigError(f"--classes --format={chosen.format}: classes are printed as markdown; leave one of the two out")
    if chosen.episodes < 0:
        raise ConfigError(f"--episodes={chosen.episodes}: give a number of at least 0")
    target, pictures = chosen.html or chosen.folder[0] / "report.html", chosen.pictures or chosen.folder[0]
    with_files = chosen.format is None or chosen.html or chosen.pictures
    if with_files:
        page.check_target(target)
    found = collect(chosen.folder)
    made = tables(found.tests, found.failures)
    others = unexplained(made, found.failures)
    print(_FORMATS[chosen.format or "markdown"](made))
    if chosen.classes:
        print("", *by_class(made), sep="\n\n")
    noticed = doubts(found.tests)
    notes = [*(f"failed: {failure.folder}: {failure.message}" for failure in others)]
    notes += [*(f"note: {line}" for line in noticed), "", INTERVALS]
    print("", *notes, sep="\n", file=sys.stderr if chosen.format in ("latex", "csv") else sys.stdout)
    if with_files:
        for written in _write(made, found, others, noticed, target, pictures, chosen.episodes, not chosen.masks_only):
            print(written, file=sys.stderr)


def _write(
    made: Sequence[Table],
    found: CollectedRuns,
    others: Sequence[FailedRun],
    noticed: Sequence[str],
    target: Path,
    pictures: Path,
    each: int,
    photographs: bool,
) -> Iterator[str]:
    """Write the pictures and the page, and say where each is.

    Raises:
        DataError: one cannot be written; names it.
    """
    yield from (f"episodes: {path}" for path in figures.episode_grids(found.tests, pictures, each, photographs))
    write_whole(target, page.render(made, found, others, noticed, each, photographs).encode())
    yield f"page: {target}"


def _compare(arguments: Sequence[str]) -> None:
    chosen = _two_folders("compare", compare.__doc__).parse_args(arguments)
    a, b = (collect([folder]).tests for folder in (chosen.a, chosen.b))
    print(compare.markdown(compare.compare(a, b, chosen.weights, chosen.shot)))


def _power(arguments: Sequence[str]) -> None:
    parser = _two_folders("power", power.__doc__)
    parser.add_argument(
        "--points", type=float, nargs="+", default=[1.0, 2.0, 5.0], help="differences of mIoU (default: 1 2 5)"
    )
    parser.add_argument("--lists", type=Path, help="folder with the lists fold0.txt ... of PASCAL-5i's images to test on")
    chosen = parser.parse_args(arguments)
    if min(chosen.points) <= 0:
        raise ConfigError(f"--points {min(chosen.points):g}: give differences above 0")
    a, b = (collect([folder]).tests for folder in (chosen.a, chosen.b))
    _, _, shot, pairs = compare.paired(a, b, chosen.weights, chosen.shot)
    lists = None if chosen.lists is None else {fold: _images_by_class(chosen.lists / f"fold{fold}.txt") for fold in pairs}
    print(power.markdown(power.variances(pairs, shot), chosen.points, lists))


def _two_folders(name: str, description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"mshnet-report {name}", description=description)
    parser.add_argument("a", type=Path, help="folder with one result, or with the same folds as B")
    parser.add_argument("b", type=Path, help="the other one")
    parser.add_argument("--weights", help="best, last, untrained, ...; needed where a folder holds several")
    parser.add_argument("--shot", type=int, help="number of shots of the test; needed where a folder holds several")
    return parser


def _images_by_class(path: Path) -> dict[int, int]:
    from mshnet_pl.data.protocol.split_lists import by_class, read_text_list
    from mshnet_pl.data.sources.pascal5i import Pascal5i

    return {class_id: len(names) for class_id, names in by_class(read_text_list(path, len(Pascal5i.classes))).items()}


_FORMATS: dict[str, Callable[[Sequence[Table]], str]] = {
    "markdown": lambda made: "\n\n".join(map(formats.markdown, made)),
    "latex": lambda made: "\n\n".join(map(formats.latex, made)),
    "csv": formats.comma_separated,
}
