"""Which images the episodes of a fold are drawn from, and the draws themselves: names and classes, no pixels."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from mshnet_pl.data.protocol.controls import other_class, which_of_two
from mshnet_pl.data.protocol.leakage import check_disjoint
from mshnet_pl.data.protocol.sampling import (
    Draws,
    check_supply,
    draw_balanced,
    draw_seeded,
    images_needed,
    refuse_bad,
    refuse_shortages,
    shortages,
    without,
)
from mshnet_pl.data.protocol.split_lists import Pair, by_class
from mshnet_pl.data.sources.base import AbstractSource
from mshnet_pl.errors import ConfigError, DataError
from mshnet_pl.options import EVERY_FOLD, BadFiles, Control, NovelPixels, Protocol, Subset, ValClasses

log = logging.getLogger(__name__)

_VALIDATION_SEED = 2**32
"""Added to the run's seed: validation episodes are never test episodes."""


class FoldImages:
    """The images of training, validation and test of one fold, by class; the arguments are ``EpisodeDataModule``'s.

    Raises:
        ConfigError: an impossible fold.
    """

    def __init__(
        self,
        source: AbstractSource,
        fold: int | str,
        shot: int,
        way: int,
        seed: int,
        novel_pixels: NovelPixels,
        min_images: int,
        bad_files: BadFiles,
        val_classes: ValClasses,
        val_heldout: int,
        val_episodes: int,
    ) -> None:
        try:
            if isinstance(fold, str) and fold != EVERY_FOLD:
                raise ValueError(f"fold={fold}: give the fold's number, or {EVERY_FOLD} for every class")
            self.fold = source.fold(fold) if isinstance(fold, int) else source.every_class()
        except ValueError as error:
            raise ConfigError(str(error)) from error
        self._source, self._shot, self._way, self._seed = source, shot, way, seed
        self._novel_pixels, self._min_images, self._skip_bad = novel_pixels, min_images, bad_files is BadFiles.skip
        heldout = source.validation_classes
        if val_classes is ValClasses.base_heldout and val_episodes and not heldout:
            heldout = self.fold.base[-val_heldout:]
        self._hidden = {*self.fold.novel, *heldout}
        self._train_classes = [c for c in self.fold.base if c not in heldout]
        self._val_classes = list((heldout if val_classes is ValClasses.base_heldout else ()) or self.fold.tested)
        self._test_classes = list(self.fold.tested)
        self.train: dict[int, list[str]] = {}
        """Training images by class."""
        self._val: dict[int, list[str]] = {}
        self.bad: dict[str, str] = {}
        """What is wrong with an image, by its name; empty unless ``bad_files=skip``."""
        self.removed = 0
        """How many training images ``novel_pixels=drop`` left out."""

    def setup(self) -> None:
        """Check every file and list the images of every class.

        Raises:
            DataError: damaged or missing files, classes with too few images, or training that sees what is tested.
        """
        self._source.check(*[self.bad] * self._skip_bad)
        if self.bad:
            log.warning("data.bad_files=skip: episodes go without these images:\n%s", "\n".join(self.bad.values()))
        pairs = self._source.pairs(Subset.TRAIN)
        contents = self._source.contents(Subset.TRAIN)
        holders = {name for name, _ in pairs if not self._hidden.isdisjoint(contents[name])}
        drop = self._novel_pixels is NovelPixels.drop
        if drop:
            self.removed = len({name for name, class_id in pairs if class_id in self._train_classes} & holders)
            pairs = [pair for pair in pairs if pair[0] not in holders]
        log.info(
            "novel_pixels=%s: %d training images hold a class that is tested; %d of the base classes' images left out",
            self._novel_pixels.value, len(holders), self.removed,
        )  # fmt: skip
        names = by_class(pairs)
        self._train_classes = self._supplied(names, self._train_classes)
        self.train = {c: names[c] for c in self._train_classes if c in names}
        self._val = by_class(self._source.pairs(Subset.VAL))
        self._test_classes = self._supplied(self._val, self._test_classes)
        self._val_classes = self._supplied(self._val, self._val_classes)
        check_disjoint(
            self.train,
            self._hidden,
            contents if drop else None,
            {name for listed in self._val.values() for name in listed},
            self._source.classes,
        )

    def _supplied(self, names: Mapping[int, list[str]], classes: list[int]) -> list[int]:
        usable = self._usable(names)
        left_out = [c for c in classes if len(usable.get(c, ())) < self._min_images]
        if left_out:
            log.warning(
                "data.min_images=%d leaves out %s",
                self._min_images,
                ", ".join(self._source.classes[c] for c in left_out),
            )
        if len(left_out) == len(classes):
            raise DataError(f"data.min_images={self._min_images} leaves no class of {[*classes]}; give a smaller number")
        return [c for c in classes if c not in left_out]

    @property
    def trained(self) -> list[str]:
        """The names of the classes that are trained."""
        return [self._source.classes[c] for c in self._train_classes]

    @property
    def read(self) -> list[str]:
        """The images that training, validation and test may read; some occur for several classes."""
        tested = {*self._test_classes, *self._val_classes}
        listed = [*self.train.values(), *(names for c, names in self._val.items() if c in tested)]
        return [name for names in listed for name in names]

    @property
    def unknown(self) -> list[int]:
        """Classes whose pixels are labelled 255 in training's query masks."""
        return sorted(self._hidden) if self._novel_pixels is NovelPixels.ignore else []

    def check_supply(self, test_shots: Sequence[int], training: bool) -> None:
        """Refuse episodes that cannot be drawn, those of training and of every test in one message.

        Raises:
            DataError: names every class with too few images.
        """
        wanted = {Subset.VAL: (self._val, self._test_classes, max(test_shots), "testing")}
        if training:
            wanted[Subset.TRAIN] = self.train, self._train_classes, self._shot, "training"
        lacking = {
            (subset, c): f"{problem} for {purpose}"
            for subset, (names, classes, shot, purpose) in wanted.items()
            for c, problem in shortages(self._usable(names), classes, shot, self._source.classes, self._way).items()
        }
        way_out = self._source.resharing(
            {
                (subset, c): images_needed(shot, self._way)
                for subset, (_, classes, shot, _) in wanted.items()
                for c in classes
            }
        )
        if way_out:  # the shares are the user's to choose
            own = by_class([pair for subset in Subset for pair in self._source.pairs(subset)])
            lacking = {key: f"{problem}, of {len({*own.get(key[1], ())})} in all" for key, problem in lacking.items()}
        refuse_shortages(
            [*lacking.values()], max((wanted[subset][2] for subset, _ in lacking), default=0), self._way, way_out
        )

    def test_draws(self, episodes: int, shot: int, seed: int, protocol: Protocol) -> list[Draws]:
        """The test episodes.

        Raises:
            DataError: a class with too few images.
        """
        self._check(self._val, self._test_classes, shot)
        if protocol is Protocol.published:
            pairs: list[Pair] = [pair for pair in self._source.pairs(Subset.VAL) if pair[1] in self._test_classes]
            made = self._source.published(pairs, shot, episodes)
            refuse_bad(made, self.bad)
            return made
        drawn = (draw_seeded(self._val, self._test_classes, shot, seed, n, self._way) for n in range(episodes))
        return [without(self._val, seed, draws, n, self.bad) for n, draws in enumerate(drawn)]

    def control_draws(self, episodes: Sequence[Draws], shot: int, seed: int) -> dict[Control, list[Draws]]:
        """Test episodes of one class, and as many control episodes of each kind, or queries where there are fewer.

        Raises:
            DataError: there is no other class to show.
        """
        contents = self._source.contents(Subset.VAL)
        return {
            Control.own: [*episodes],
            Control.other_class: other_class(episodes, contents),
            Control.which_of_two: which_of_two(contents, self._val, self._test_classes, shot, seed, len(episodes)),
        }

    def train_draw(self) -> tuple[Callable[[int], Draws], int]:
        """What gives a training episode by its number, and how many an epoch has.

        Raises:
            DataError: a class with too few images.
        """
        self._check(self.train, self._train_classes, self._shot)
        choice = self.train, self._train_classes, self._shot, self._seed
        length, per_class = self._source.epoch_length, self._source.draws_per_class
        if length is not None:
            return partial(draw_seeded, *choice, way=self._way), length
        return partial(draw_balanced, *choice, per_class=per_class, way=self._way), per_class * len(self._train_classes)

    def val_draw(self) -> Callable[[int], Draws]:
        """What gives a validation episode by its number.

        Raises:
            DataError: a class with too few images.
        """
        self._check(self._val, self._val_classes, self._shot)
        seed = self._seed + _VALIDATION_SEED
        return partial(draw_seeded, self._val, self._val_classes, self._shot, seed, way=self._way)

    def replacing(self, validation: bool) -> dict[str, Any]:
        """How a data set of training or validation episodes deals with bad images: arguments of ``EpisodeDataset``."""
        names, seed = (self._val, self._seed + _VALIDATION_SEED) if validation else (self.train, self._seed)
        return {"replace": partial(without, names, seed), "bad": self.bad} if self._skip_bad else {}

    def _check(self, names: Mapping[int, list[str]], classes: list[int], shot: int) -> None:
        check_supply(self._usable(names), classes, shot, self._source.classes, self._way)

    def _usable(self, names: Mapping[int, list[str]]) -> Mapping[int, list[str]]:
        return {c: [name for name in listed if name not in self.bad] for c, listed in names.items()} if self.bad else names
