"""PASCAL-5i (Shaban et al., BMVC 2017): PASCAL VOC 2012 with SBD's additional masks, 20 classes in 4 folds."""

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mshnet_pl.data.io.folders import visible
from mshnet_pl.data.io.images import read_image
from mshnet_pl.data.protocol.split_lists import Pair, read_names, read_published
from mshnet_pl.data.sources.base import AbstractSource
from mshnet_pl.data.sources.verification import ClassAreas, Files, fingerprint, read_labels, take_inventory
from mshnet_pl.errors import DataError
from mshnet_pl.options import UNKNOWN, Subset
from mshnet_pl.utils.places import given_place

log = logging.getLogger(__name__)

_MIN_PIXELS = 2048
"""A class counts in an image from this area on, where lists are derived."""


class Pascal5i(AbstractSource):
    """``root/JPEGImages/*.jpg`` and ``root/SegmentationClassAug/*.png``, listed by fold.

    Args:
        root: the data set's folder.
        splits_dir: folder with the published lists ``{trn,val}/fold{0..3}.txt``. Without it the lists are derived: VOC's
            own ``root/ImageSets/Segmentation/val.txt`` for validation and test, every other mask for training, and a class
            counts in an image where it covers at least 2,048 pixels.

    Raises:
        DataError: the root lacks a folder, or there is nothing to take the lists from.
    """

    classes = (
        "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
        "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    )  # fmt: skip

    def __init__(self, root: str, splits_dir: str | None = None) -> None:
        self._root = given_place(root, "data.root")
        for folder in ("JPEGImages", "SegmentationClassAug"):
            if not (self._root / folder).is_dir():
                raise DataError(
                    f"data.root={root}: no folder {folder} in it; give the folder of VOC 2012 that holds JPEGImages and "
                    f"SegmentationClassAug, or let mshnet-prepare data=pascal5i data.root={root} make what is missing"
                )
        self._splits_dir = None if splits_dir is None else given_place(splits_dir, "data.splits_dir")
        self.splits = "derived" if self._splits_dir is None else "published"
        self._areas: ClassAreas = {}
        self._pairs: dict[Subset, list[Pair]] = {}

    def check(self, bad: dict[str, str] | None = None) -> None:
        """See the base class; derived lists lack bad images."""
        if self._splits_dir is None:
            self.derive(bad)
            return
        self._pairs = self._published_pairs(self._splits_dir, bad is None)
        pairs = [pair for listed in self._pairs.values() for pair in listed]
        names = sorted({name for name, _ in pairs})
        self._areas = take_inventory({name: self._files(name) for name in names}, len(self.classes), bad=bad)
        empty = [f"{name}__{c + 1:02d}" for name, c in pairs if name in self._areas and c not in self._areas[name]]
        if empty:
            log.warning("data.splits_dir=%s: masks do not show the class of %s", self._splits_dir, ", ".join(empty))

    def derive(self, bad: dict[str, str] | None = None) -> dict[Subset, list[Pair]]:
        """List every mask's classes by the rule for derived lists, whether there are published lists or not.

        Args:
            bad: takes what is wrong with an image, by its name, instead of an error; these are left out of the lists.

        Raises:
            DataError: files are missing or damaged, or nothing says which images are for testing.
        """
        masks = visible(self._root / "SegmentationClassAug", "*.png")
        files = {path.stem: self._files(path.stem) for path in masks}
        val = self._val_names(files, bad)
        self._areas = take_inventory(files, len(self.classes), bad=bad)
        large = [(name, c) for name, areas in self._areas.items() for c, n in areas.items() if n >= _MIN_PIXELS]
        large.sort(key=lambda pair: (pair[1] // 5, pair))  # by fold, as the published lists are
        self._pairs = {
            Subset.TRAIN: [pair for pair in large if pair[0] not in val],
            Subset.VAL: [pair for pair in large if pair[0] in val],
        }
        return self._pairs

    def _published_pairs(self, folder: Path, complete: bool) -> dict[Subset, list[Pair]]:
        published = read_published(folder, len(self.classes))
        problems = [
            f"{place}: {name}: no file {gone[0]}"
            for pairs in published.values()
            for (name, _), place in pairs.items()
            if (gone := [file for file in self._files(name) if not file.is_file()])
        ]
        if problems and complete:
            raise DataError.listing(
                "split lists name images that are missing:",
                problems,
                "Check data.root, or take these lines off the lists.",
            )
        return {subset: [*pairs] for subset, pairs in published.items()}

    def _val_names(self, there: Collection[str], bad: dict[str, str] | None) -> Collection[str]:
        """VOC's own images for testing; one that is not ``there`` could be a training image by another name."""
        path = self._root / "ImageSets" / "Segmentation" / "val.txt"
        if not path.is_file():
            raise DataError(
                f"{path} is missing: a text file with the names of VOC 2012's 1,449 images for testing, one a line. Copy it "
                "from any VOC 2012; or give published lists, which hold these names (data.splits_dir=DIR, such as "
                "data/splits/pascal of https://github.com/juhongm999/hsnet). The official one lies in an archive of 1.9 GB, "
                f"which mshnet-prepare data=pascal5i data.root={self._root} download=true fetches"
            )
        names = read_names(path)
        if not names:
            raise DataError(f"{path} is empty; it names the images for testing, one a line")
        lacking = {name: f"{place}: {name}: no file {self._files(name).mask}" for name, place in names.items()}
        lacking = {name: problem for name, problem in lacking.items() if name not in there}
        if bad is not None:  # a mask is lost, but the name is an image's
            lost = {name: problem for name, problem in lacking.items() if self._files(name).image.is_file()}
            bad |= lost
            lacking = {name: problem for name, problem in lacking.items() if name not in lost}
        if lacking:
            raise DataError.listing(
                f"data.root={self._root}: images for testing that are not there:",
                [*lacking.values()],
                "Put them there, or take these lines off the list.",
            )
        return names

    def pairs(self, subset: Subset) -> list[Pair]:
        """See the base class."""
        return self._pairs[subset]

    def contents(self, subset: Subset) -> Mapping[str, Collection[int]]:
        """See the base class."""
        return {name: self._areas.get(name, {}).keys() for name, _ in self._pairs[subset]}

    def identity(self) -> str:
        """See the base class."""
        return fingerprint({name: self._files(name) for name in self._areas})

    def image(self, name: str) -> Image.Image:
        """See the base class."""
        return read_image(self._files(name).image, turn=False)

    def mask(self, name: str, classes: Collection[int]) -> UInt8[np.ndarray, "height width"]:
        """See the base class."""
        meaning = np.zeros(UNKNOWN + 1, np.uint8)
        meaning[UNKNOWN] = UNKNOWN
        meaning[[c + 1 for c in classes]] = 1
        return meaning[read_labels(self._files(name).mask)]

    def _files(self, name: str) -> Files:
        return Files(self._root / "JPEGImages" / f"{name}.jpg", self._root / "SegmentationClassAug" / f"{name}.png")
