"""FSS-1000 (Li et al., CVPR 2020): 1,000 classes of ten images each, one object an image."""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mshnet_pl.data.io.images import decoding, read_image
from mshnet_pl.data.protocol.folds import Fold
from mshnet_pl.data.protocol.sampling import Draws, published_walk
from mshnet_pl.data.protocol.split_lists import Pair, read_classes
from mshnet_pl.data.sources.base import AbstractSource
from mshnet_pl.data.sources.verification import Files, MaskReader, fingerprint, take_inventory
from mshnet_pl.errors import DataError
from mshnet_pl.options import EVERY_FOLD, Subset
from mshnet_pl.utils.places import given_place

log = logging.getLogger(__name__)

_IMAGES = range(1, 11)
"""Numbers of a class's images."""
_WHITE = 128
"""Gray value from which on a mask's pixel is the object."""


class Fss1000(AbstractSource):
    """``root/CLASS/{1..10}.jpg`` with ``root/CLASS/{1..10}.png``, white object on black.

    There is one fold: training on the classes of ``trn.txt``, test on those of ``test.txt``; ``val.txt`` holds a third
    group, ``validation_classes``, which ``val.classes=base_heldout`` validates on. Classes are numbered in this order: trn,
    val, test.
    An epoch has every training image as query once on average. The published test (as in HSNet) has every test image as
    query once, 2,400 episodes, however many more are asked for.

    Args:
        root: the folder of the classes' folders.
        splits_dir: folder with the lists ``trn.txt``, ``val.txt`` and ``test.txt``, a class's name a line.

    Raises:
        DataError: the root or a list is missing, or a class is listed twice.
    """

    splits = "published"
    draws_per_class = len(_IMAGES)

    def __init__(self, root: str, splits_dir: str) -> None:
        self._root = given_place(root, "data.root")
        if not self._root.is_dir():
            raise DataError(f"data.root={root}: no such folder; give the folder of FSS-1000 that holds the classes' folders")
        lists = _read_lists(given_place(splits_dir, "data.splits_dir"))
        self.classes = tuple(name for listed in lists for name in listed)
        twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
        if twice:
            raise DataError.listing(
                f"data.splits_dir={splits_dir}: classes listed twice:", twice, "A class belongs to one of the three lists."
            )
        trn, val, _ = map(len, lists)
        numbers = tuple(range(len(self.classes)))
        self._fold = Fold(base=numbers[:trn], novel=numbers[trn + val :])
        self.validation_classes = numbers[trn : trn + val]
        self._contents: dict[str, Collection[int]] = {}

    def fold(self, fold: int) -> Fold:
        """See the base class.

        Raises:
            ValueError: any fold but 0.
        """
        if fold != 0:
            raise ValueError(f"fold={fold}: FSS-1000 has one fold; give fold=0")
        return self._fold

    def every_class(self) -> Fold:
        """See the base class.

        Raises:
            ValueError: always; the lists have no training images of the tested classes.
        """
        raise ValueError(f"fold={EVERY_FOLD}: FSS-1000 has no training images of the tested classes; give fold=0")

    def check(self, bad: dict[str, str] | None = None) -> None:
        """See the base class."""
        gone = [name for name in self.classes if not (self._root / name).is_dir()]
        if gone:
            raise DataError.listing(
                f"data.root={self._root}: no folders of these classes:", gone, "Check data.root and data.splits_dir."
            )
        pairs = [pair for subset in Subset for pair in self.pairs(subset)]
        areas = take_inventory({name: self._files(name) for name, _ in pairs}, 1, reader=_WHITE_ON_BLACK, bad=bad)
        self._contents = {name: {class_id} if areas.get(name) else set() for name, class_id in pairs}
        empty = [name for name, shown in self._contents.items() if not shown and name in areas]
        if empty:
            log.warning("data.root=%s: the masks of %s show no object", self._root, ", ".join(empty))

    def pairs(self, subset: Subset) -> list[Pair]:
        """Class by class as listed, a class's images by the order of their names: 1, 10, 2, ..."""
        classes = self._fold.base if subset is Subset.TRAIN else (*self.validation_classes, *self._fold.novel)
        return [(f"{self.classes[c]}/{number}", c) for c in classes for number in sorted(map(str, _IMAGES))]

    def contents(self, subset: Subset) -> Mapping[str, Collection[int]]:
        """See the base class."""
        return {name: self._contents[name] for name, _ in self.pairs(subset)}

    def identity(self) -> str:
        """See the base class."""
        return fingerprint({name: self._files(name) for name in self._contents})

    def image(self, name: str) -> Image.Image:
        """See the base class."""
        return read_image(self._files(name).image, turn=False)

    def mask(self, name: str, classes: Collection[int]) -> UInt8[np.ndarray, "height width"]:
        """See the base class; nothing is labelled 255."""
        mask = _white(self._files(name).mask)
        return mask if self.classes.index(name.rpartition("/")[0]) in classes else np.zeros_like(mask)

    def published(self, pairs: list[Pair], shot: int, episodes: int) -> list[Draws]:
        """See the base class; supports are drawn by their number, 1 to 10."""
        supports = {c: [f"{self.classes[c]}/{number}" for number in _IMAGES] for _, c in pairs}
        return published_walk(pairs, shot, min(episodes, len(pairs)), supports=supports)

    def _files(self, name: str) -> Files:
        return Files(self._root / f"{name}.jpg", self._root / f"{name}.png")


def _white(path: Path) -> UInt8[np.ndarray, "height width"]:
    """1 where a mask's pixels are light, in gray or in colour: the object."""
    with decoding(path) as mask:
        return (np.asarray(mask.convert("L")) >= _WHITE).astype(np.uint8)


_WHITE_ON_BLACK = MaskReader(
    f"WhiteOnBlack({_WHITE})", lambda _, path: _white(path), lambda _, mask: {0: int(mask.sum())} if mask.any() else {}
)


def _read_lists(folder: Path) -> list[list[str]]:
    lists, problems = [], []
    for part in ("trn", "val", "test"):
        try:
            lists.append(read_classes(folder / f"{part}.txt"))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError.listing(
            f"data.splits_dir={folder}: lists that cannot be read:",
            problems,
            "Give the folder of the three lists.",
        )
    return lists
