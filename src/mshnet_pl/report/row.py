"""A row of a report's tables: its tests, and their means with intervals."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import NamedTuple

from mshnet_pl.options import EVERY_FOLD
from mshnet_pl.report.bootstrap import Estimate, FoldSpread, Scored, estimate, fold_spread
from mshnet_pl.report.counts import FB_IOU, MIOU, everything_foreground
from mshnet_pl.report.episode_images import Behind
from mshnet_pl.report.measured import Measured
from mshnet_pl.results import Measurement, Result

EVERYTHING = "everything foreground"
AS_TESTED = "as tested"
EVERY_CLASS = "every class"
NOTHING_TRAINED = ("untrained", "training-free")


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
        return not self.is_baseline and self.key.weights not in NOTHING_TRAINED

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

    def add(self, measured: Measured) -> None:
        """Take a test into its cell; a test of the same seeds gives way to it, and is kept if it had other scores."""
        place = self.tests[Cell(measured.test.shot, measured.result.config["fold"])]
        seeds = Seeds(0 if self.is_baseline else int(measured.result.config["seed"]), measured.test.seed)
        if seeds in place and scores(place[seeds].test, self.is_baseline) != scores(measured.test, self.is_baseline):
            self.superseded.append(place[seeds])
        place[seeds] = measured

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
                found = scores(measured.test, self.is_baseline)
                if score in found:
                    by_seed[seeds.training].append(found[score])
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


def sorted_folds(folds: Iterable[FoldName]) -> list[FoldName]:
    """Each once, by number, ``all`` at the end."""
    return sorted({*folds}, key=lambda fold: (isinstance(fold, str), fold))


def named_folds(folds: Sequence[FoldName]) -> str:
    """``fold 2`` or ``folds 0, 1``."""
    return f"fold{'s' * (len(folds) > 1)} {', '.join(map(str, folds))}"


def scores(test: Measurement, baseline: bool) -> dict[str, float]:
    """Scores by name, in percent."""
    if baseline:
        return {MIOU: test.everything_foreground_miou}
    return {MIOU: test.miou, FB_IOU: test.fb_iou, **test.class_iou}
