"""Measurements to rows: what may be averaged, and what must stay apart."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import NamedTuple

from mshnet_pl.options import EVERY_FOLD
from mshnet_pl.report.bootstrap import Estimate, FoldSpread, Scored, estimate, fold_spread
from mshnet_pl.report.config_names import OF_EPISODES, OF_NETWORKS, backbone, data, of_result
from mshnet_pl.report.counts import FB_IOU, MIOU, everything_foreground
from mshnet_pl.report.episode_images import Behind
from mshnet_pl.report.measured import Measured
from mshnet_pl.results import Measurement, Result, Training
from mshnet_pl.utils.records import as_record
from mshnet_pl.utils.targets import class_name, network_name

EVERYTHING = "everything foreground"
AS_TESTED = "as tested"
EVERY_CLASS = "every class"
_NOTHING_TRAINED = ("untrained", "training-free")


FoldName = int | str
"""A fold's number, or ``all`` where every class was trained or tested."""


class Key(NamedTuple):
    """What the tests of a row have in common, other settings apart."""

    data: str
    """Class of the data source, such as ``Pascal5i``."""
    backbone: str
    method: str
    weights: str
    trained: str
    """``as tested``; else ``1-shot training`` and the like, and on what; where nothing was, empty or ``every class``."""


class Cell(NamedTuple):
    """A number of shots and a fold."""

    shot: int
    fold: FoldName


class Seeds(NamedTuple):
    """Seeds of training and of the test episodes."""

    training: int
    test: int


@dataclass
class Row:
    """Tests that differ in fold, shots and seeds only."""

    key: Key
    settings: dict[str, str]
    """Every setting that can change the row's numbers."""
    tests: dict[Cell, dict[Seeds, Measured]] = field(default_factory=lambda: defaultdict(dict))
    superseded: list[Measured] = field(default_factory=list)
    """Older tests whose place a newer one with other counts has taken."""
    differences: dict[str, str] = field(default_factory=dict)
    """The settings that other rows of the same key have otherwise."""
    mark: str = ""
    """``#1`` and the like for rows with differences: a number for each distinct set of them."""
    _spreads: dict[tuple[Cell, str], FoldSpread | None] = field(default_factory=dict, repr=False)

    @property
    def is_baseline(self) -> bool:
        """Whether this is the prediction that calls every pixel foreground."""
        return self.key.method == EVERYTHING

    @property
    def is_trained(self) -> bool:
        """Whether anything was learned."""
        return not self.is_baseline and self.key.weights not in _NOTHING_TRAINED

    @property
    def label(self) -> str:
        """The row in words."""
        weights = f" ({self.weights})" if self.weights else ""
        return self.name + weights

    @property
    def name(self) -> str:
        """The method with its mark, and the backbone."""
        return ", ".join(part for part in (f"{self.key.method} {self.mark}".strip(), self.key.backbone) if part)

    @property
    def weights(self) -> str:
        """The weights, and how training was unlike the test."""
        return ", ".join(part for part in (self.key.weights, self.key.trained) if part not in ("", AS_TESTED))

    def averaged(self, folds: Iterable[FoldName]) -> list[FoldName]:
        """Those of a table's folds that its mean is over: all that have a number, or the one of every class."""
        of_every_class = any(cell.fold == EVERY_FOLD for cell in self.tests)
        return [fold for fold in folds if (fold == EVERY_FOLD) == of_every_class]

    @property
    def variant(self) -> str:
        """The ablation's name; ``full`` for none."""
        return str(self.results[0].config.get("variant", "full"))

    @property
    def measured(self) -> list[Measured]:
        """Every test."""
        return [one for tests in self.tests.values() for one in tests.values()]

    def images(self, cell: Cell) -> Behind | None:
        """How many distinct images stand behind a cell; None where that was not recorded."""
        known = [images for one in self.tests.get(cell, {}).values() if (images := one.images)]
        return Behind.of(known) if known else None

    @property
    def cells(self) -> list[Cell]:
        """What was tested, by number of shots, then by fold."""
        return [Cell(shot, fold) for shot in self.shots for fold in self.folds(shot)]

    def folds(self, shot: int) -> list[FoldName]:
        """Those that were tested with a number of shots."""
        return sorted_folds(cell.fold for cell in self.tests if cell.shot == shot)

    @property
    def shots(self) -> list[int]:
        """Numbers of shots that were tested."""
        return sorted({cell.shot for cell in self.tests})

    @property
    def results(self) -> list[Result]:
        """The results behind the row, each once."""
        return list({id(one.result): one.result for one in self.measured}.values())

    def estimate(self, shot: int, folds: Sequence[FoldName], score: str = MIOU) -> Estimate | None:
        """Mean over folds of the means over training seeds of the means over test seeds, with its interval.

        Args:
            shot: how many supports.
            folds: whose cells.
            score: ``mIoU``, ``FB-IoU`` or the name of a class.

        Returns:
            Percent; None if the row lacks the score in one of the folds, or there is none.
        """
        values: list[float] = []
        for fold in folds:
            by_seed: dict[int, list[float]] = defaultdict(list)
            for seeds, measured in self.tests.get(Cell(shot, fold), {}).items():
                scores = _scores(measured.test, self.is_baseline)
                if score in scores:
                    by_seed[seeds.training].append(scores[score])
            if not by_seed:
                return None
            values.append(fmean(map(fmean, by_seed.values())))
        if not values:
            return None
        spreads = [self._spread(Cell(shot, fold), score) for fold in folds]
        return estimate(fmean(values), [spread for spread in spreads if spread] if all(spreads) else []).of_score

    def _spread(self, cell: Cell, score: str) -> FoldSpread | None:
        """How a fold's score varies; None where counts or images were not recorded."""
        if (cell, score) not in self._spreads:
            known = [[own for own in group if own and own.has(score)] for group in self._scored[cell]]
            complete = all(own for group in self._scored[cell] for own in group)
            self._spreads[cell, score] = fold_spread([group for group in known if group], score) if complete else None
        return self._spreads[cell, score]

    @cached_property
    def _scored(self) -> dict[Cell, list[list[Scored | None]]]:
        """By training seed; None in the place of a test whose counts or images were not recorded."""
        found: dict[Cell, dict[int, list[Scored | None]]] = defaultdict(lambda: defaultdict(list))
        for cell, tests in self.tests.items():
            for seeds, one in tests.items():
                counts, images = one.counts, one.images
                if counts and self.is_baseline:
                    counts = everything_foreground(counts)
                scored = Scored(images, tuple(one.test.class_iou), counts) if counts and images else None
                found[cell][seeds.training].append(scored)
        return {cell: [*by_seed.values()] for cell, by_seed in found.items()}


def rows(tests: Iterable[Measured]) -> list[Row]:
    """All rows, in the order of tables: what needs no training first. A test that occurs twice counts once, the newest."""
    ordered = sorted(tests, key=lambda measured: measured.result.date)
    shots = {
        measured.result.training.get("checkpoint_sha256"): int(measured.result.config["shot"])
        for measured in ordered
        if measured.result.command == "train"
    }
    found: dict[tuple[Key, tuple[tuple[str, str], ...]], Row] = {}
    for measured in ordered:
        result, test, _ = measured
        own = _key(measured, shots)
        for key in (own, Key(own.data, "", EVERYTHING, "", _every_class(result))):
            scope = OF_EPISODES if key is not own else OF_NETWORKS if own.weights in _NOTHING_TRAINED else ()
            settings = of_result(result, scope)
            row = found.setdefault((key, tuple(settings.items())), Row(key, settings))
            place = row.tests[Cell(test.shot, result.config["fold"])]
            seeds = Seeds(0 if row.is_baseline else int(result.config["seed"]), test.seed)
            if seeds in place and _scores(place[seeds].test, row.is_baseline) != _scores(test, row.is_baseline):
                row.superseded.append(place[seeds])
            place[seeds] = measured
    by_key: dict[Key, list[Row]] = defaultdict(list)
    for row in found.values():
        by_key[row.key].append(row)
    for group in by_key.values():
        differing = [
            name
            for name in sorted({n for row in group for n in row.settings})
            if len({r.settings.get(name) for r in group}) > 1
        ]
        for row in group:
            row.differences = {name: row.settings.get(name, "(not set)") for name in differing}
    ordered_rows = sorted(found.values(), key=order)
    marks: dict[tuple[tuple[str, str], ...], str] = {}
    for row in ordered_rows:
        if row.differences:
            row.mark = marks.setdefault(tuple(row.differences.items()), f"#{len(marks) + 1}")
    return ordered_rows


def sorted_folds(folds: Iterable[FoldName]) -> list[FoldName]:
    """Each once, by number, ``all`` at the end."""
    return sorted({*folds}, key=lambda fold: (isinstance(fold, str), fold))


def named_folds(folds: Sequence[FoldName]) -> str:
    """``fold 2`` or ``folds 0, 1``."""
    return f"fold{'s' * (len(folds) > 1)} {', '.join(map(str, folds))}"


def _every_class(result: Result) -> str:
    """What keeps a test of every class apart from those of folds; empty for these."""
    return EVERY_CLASS if result.config["fold"] == EVERY_FOLD else ""


def _key(measured: Measured, shots: Mapping[str | None, int]) -> Key:
    result, weights = measured.result, measured.test.weights
    config = result.config
    trained = _every_class(result)
    if weights not in _NOTHING_TRAINED:
        of_checkpoint = result.training.get("shot", shots.get(result.training.get("checkpoint_sha256")))
        shot = config["shot"] if result.command == "train" else of_checkpoint
        other = [] if shot == measured.test.shot else [f"{'?' if shot is None else f'{shot}-shot'} training"]
        trained = ", ".join([*other, *_classes_trained(result, weights)]) or AS_TESTED
    return Key(data(config), backbone(config), network_name(config), weights, trained)


def _classes_trained(result: Result, weights: str) -> Iterator[str]:
    """On which other data a network was trained, whether from another's weights, and which tested classes were trained."""
    told = result.training
    if "trainings" in told:
        past = [as_record(Training, one) for one in told["trainings"]]
        past = past[:-1] if weights == "start" and told["steps"] else past
        names, tested = [*dict.fromkeys(one.data for one in past)], told["tested_on"]
        if names != [tested]:
            elsewhere = f", tested on {tested}" if names[-1:] != [tested] else ""
            yield f"trained on {', then '.join(names)}{elsewhere}"
        elif any(one.tuned for one in past):
            yield "fine-tuned"
        trained = len(told["tested_classes_trained"])
        count = told.get("tested_classes", len(result.tests[0].class_iou))  # older versions told none: those that occurred
        every = _every_class(result)
        if trained:
            all_trained = "every class trained" if every else "tested classes trained"
            yield all_trained if trained >= count else f"{trained} of {count} tested classes trained"
        elif every:
            yield every
        return
    source, fold = (told.get(key) for key in ("data", "fold"))  # as older versions told it
    if source is not None and class_name(source) != data(result.config):
        yield f"trained on {class_name(source)}"
    elif fold is not None and fold != result.config["fold"]:
        yield "tested classes trained"


def _scores(test: Measurement, baseline: bool) -> dict[str, float]:
    """Scores by name, in percent."""
    if baseline:
        return {MIOU: test.everything_foreground_miou}
    return {MIOU: test.miou, FB_IOU: test.fb_iou, **test.class_iou}


def order(row: Row) -> tuple[object, ...]:
    """A key to sort rows by: data, backbone, what needs no training, method, settings."""
    key = row.key
    return (
        key.data,
        not row.is_baseline,
        key.backbone,
        key.weights not in _NOTHING_TRAINED,
        key,
        tuple(row.settings.items()),
    )
