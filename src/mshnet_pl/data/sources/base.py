"""What a data set promises to the episode sampler."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mshnet_pl.data.protocol.folds import Fold, make_fold
from mshnet_pl.data.protocol.sampling import Draws, published_walk
from mshnet_pl.data.protocol.split_lists import Pair
from mshnet_pl.options import Subset


class AbstractSource(ABC):
    """Images, and for each the mask of any class. Picklable, and cheap to copy into worker processes."""

    classes: tuple[str, ...]
    """Class names; the index is the class id, 0-based."""
    splits: str
    """Where the lists of ``pairs`` come from, for the record."""
    interleaved: bool = False
    """Whether a fold's novel classes lie apart, as COCO-20i's; see ``make_fold``."""
    validation_classes: tuple[int, ...] = ()
    """Classes of no fold, kept for validation; empty where a data set keeps none."""
    draws_per_class: int = 750
    """How often an epoch draws each base class."""
    epoch_length: int | None = None
    """Draws of an epoch whose classes are drawn uniformly; None for an epoch of ``draws_per_class`` for each."""

    def check(self, bad: dict[str, str] | None = None) -> None:  # noqa: B027 - a source made of nothing has nothing to check
        """Read every file once, before any work is done.

        Args:
            bad: takes what is wrong with an image, by its name, instead of an error. The image stays on the lists, so that
                no other episode changes; ``contents`` then says that it shows nothing.

        Raises:
            DataError: lists what is missing or damaged.
        """

    def fold(self, fold: int) -> Fold:
        """The classes that fold ``fold`` trains and tests."""
        return make_fold(fold, len(self.classes), interleaved=self.interleaved)

    @classmethod
    def base_classes(cls, fold: int) -> list[str] | None:
        """The base classes of a fold by name, where the data set's class alone tells them.

        Raises:
            ValueError: no such fold.
        """
        names: tuple[str, ...] | None = getattr(cls, "classes", None)
        return None if names is None else [names[c] for c in make_fold(fold, len(names), interleaved=cls.interleaved).base]

    def every_class(self) -> Fold:
        """All classes as base classes.

        Raises:
            ValueError: some have no training images.
        """
        return Fold(base=tuple(range(len(self.classes))), novel=())

    def identity(self) -> str | None:
        """What changes with any image, and is the same in every process; None if that cannot be told.

        A cache of images on disk rests on it (``data.cache_dir``). To be asked after ``check``.
        """
        return None

    def content(self) -> str | None:
        """SHA-256 that changes with the images, masks or lists of one's own data, wherever they lie; None of a benchmark."""
        return None

    def resharing(self, needed: Mapping[tuple[Subset, int], int]) -> str:
        """How to share the images out so that there are enough, as a sentence; nothing where that is not the user's.

        Args:
            needed: how many images of a subset a class needs.
        """
        return ""

    @abstractmethod
    def pairs(self, subset: Subset) -> list[Pair]:
        """Which image counts for which class, in the list's order; images may occur for several classes."""

    @abstractmethod
    def contents(self, subset: Subset) -> Mapping[str, Collection[int]]:
        """Every class that has at least one pixel in an image, for all images of ``pairs(subset)``."""

    @abstractmethod
    def image(self, name: str) -> Image.Image:
        """Read an image.

        Args:
            name: as ``pairs`` gives it.

        Returns:
            Mode RGB, 8 bits a channel; its mask has the same width and height.

        Raises:
            DataError: its file is missing or damaged.
        """

    @abstractmethod
    def mask(self, name: str, classes: Collection[int]) -> UInt8[np.ndarray, "height width"]:
        """Read where classes are in an image.

        Args:
            name: as ``pairs`` gives it.
            classes: class ids, 0-based; one or several, which are not told apart.

        Returns:
            (H, W) uint8 at the image's size: 1 where one of ``classes`` is, 255 where nothing is known, 0 elsewhere.

        Raises:
            DataError: its file is missing or damaged.
        """

    def published(self, pairs: list[Pair], shot: int, episodes: int) -> list[Draws]:
        """The field's published test episodes of this data set, from the novel pairs of a fold."""
        return published_walk(pairs, shot, episodes)
