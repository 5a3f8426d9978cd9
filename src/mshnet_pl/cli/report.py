"""The command line of ``mshnet-report``."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig

from mshnet_pl.cli.arguments import run
from mshnet_pl.cli.entry import entry
from mshnet_pl.config.commands import CompareConfig, PowerConfig, ReportConfig
from mshnet_pl.errors import ConfigError, on_screen
from mshnet_pl.options import Printed
from mshnet_pl.report import compare, figures, formats, page, power, terminal
from mshnet_pl.report.collection import collect
from mshnet_pl.report.formats import Table
from mshnet_pl.report.notes import doubts
from mshnet_pl.report.tables import INTERVALS, by_class, tables, unexplained
from mshnet_pl.utils.files import write_whole


@entry
def main() -> None:
    """``mshnet-report FOLDER...``, ``compare A B``, ``power A B`` or ``energy ckpt=...``."""
    command = "".join(sys.argv[1:2])
    if command == "energy":
        from mshnet_pl.cli import hydra_jobs

        del sys.argv[1]
        return hydra_jobs.run_on_checkpoint(_energy, "energy")
    if command == "compare":
        run("mshnet-report compare", CompareConfig, _compare, "mshnet-report compare runs/a runs/b", ("a", "b"))
    elif command == "power":
        example = "mshnet-report power runs/a runs/b points=[1,2]"
        run("mshnet-report power", PowerConfig, _power, example, ("a", "b"))
    else:
        example = "mshnet-report runs/demo\nmshnet-report runs/pascal5i format=latex"
        run("mshnet-report", ReportConfig, _report, example, ("folder",))


def _energy(raw: DictConfig) -> None:
    from mshnet_pl.runs import energy
    from mshnet_pl.runs.job import Run

    print(energy.make(Run.of(raw)))


def _report(config: ReportConfig) -> None:
    printed = config.format or (Printed.table if sys.stdout.isatty() else Printed.markdown)
    if config.classes and printed not in (Printed.table, Printed.markdown):
        raise ConfigError(f"classes=true format={printed}: classes are printed as markdown; leave one of the two out")
    first = config.folder[0]
    target, pictures = config.html or first / "report.html", config.pictures or first
    with_files = config.format is None or config.html or config.pictures
    if with_files:
        page.check_target(target)
    found = collect(config.folder)
    made = tables(found.tests, found.failures)
    others = unexplained(made, found.failures)
    print(_FORMATS[printed](made))
    if config.classes:
        print("", *map(on_screen, by_class(made)), sep="\n\n")
    noticed = doubts(found.tests)
    notes = [*(f"failed: {failure.folder}: {failure.message}" for failure in others)]
    notes += [f"unfinished: {folder}: no result yet; its command goes on where it stopped" for folder in found.unfinished]
    notes += [*(f"note: {line}" for line in noticed), "", INTERVALS]
    print("", *map(on_screen, notes), sep="\n", file=sys.stderr if printed in (Printed.latex, Printed.csv) else sys.stdout)
    if with_files:
        for path in figures.episode_grids(found.tests, pictures, config.episodes, not config.masks_only):
            print(f"episodes: {path}", file=sys.stderr)
        write_whole(target, page.render(made, found, others, noticed, config.episodes, not config.masks_only).encode())
        print(f"page: {target}", file=sys.stderr)


def _compare(config: CompareConfig) -> None:
    a, b = (collect([folder]).tests for folder in (config.a, config.b))
    print(on_screen(compare.markdown(compare.compare(a, b, config.weights, config.shot))))


def _power(config: PowerConfig) -> None:
    if min(config.points) <= 0:
        raise ConfigError(f"points={min(config.points):g}: give differences above 0")
    a, b = (collect([folder]).tests for folder in (config.a, config.b))
    _, _, shot, pairs = compare.paired(a, b, config.weights, config.shot)
    lists = None if config.lists is None else {fold: _images_by_class(config.lists / f"fold{fold}.txt") for fold in pairs}
    print(on_screen(power.markdown(power.variances(pairs, shot), config.points, lists)))


def _images_by_class(path: Path) -> dict[int, int]:
    from mshnet_pl.data.protocol.split_lists import by_class, read_text_lists
    from mshnet_pl.data.sources.pascal5i import Pascal5i

    (pairs,) = read_text_lists([path], len(Pascal5i.classes))
    return {class_id: len(names) for class_id, names in by_class(pairs).items()}


_FORMATS: dict[Printed, Callable[[Sequence[Table]], str]] = {
    Printed.table: lambda made: "\n".join(map(terminal.text, made)),
    Printed.markdown: lambda made: "\n\n".join(map(formats.markdown, made)),
    Printed.latex: lambda made: "\n\n".join(map(formats.latex, made)),
    Printed.csv: formats.comma_separated,
}
