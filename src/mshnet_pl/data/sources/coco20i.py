"""COCO-20i (Nguyen and Todorovic, ICCV 2019): MS COCO 2014, 80 classes in 4 folds."""

import logging
import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mshnet_pl.data.io.images import read_image
from mshnet_pl.data.protocol.folds import Fold
from mshnet_pl.data.protocol.sampling import Draws, published_classwise
from mshnet_pl.data.protocol.split_lists import Pair, bare, by_class, read_pickle_list
from mshnet_pl.data.sources.base import AbstractSource
from mshnet_pl.data.sources.coco_index import CocoIndex, open_index
from mshnet_pl.data.sources.verification import Files, MaskReader, fingerprint, take_inventory
from mshnet_pl.errors import DataError
from mshnet_pl.options import Subset
from mshnet_pl.utils.places import given_place

log = logging.getLogger(__name__)

_MIN_PIXELS = 2048
"""A class counts in an image from this area on, where lists are derived; the published lists keep to it too."""
_YEAR_FOLDER = {Subset.TRAIN: "train2014", Subset.VAL: "val2014"}
_OTHER_FOLDERS = "train2017", "val2017"


class Coco20i(AbstractSource):
    """``root/annotations/instances_{train,val}2014.json`` and the images, in the folders of 2014 or of 2017.

    Images have the names of the published lists, ``train2014/COCO_train2014_000000000009.jpg``. The file is that one, or
    else ``train2017/000000000009.jpg`` or ``val2017/000000000009.jpg``: the release of 2017 has the same images, shared out
    anew. Training draws on the annotations of train2014, validation and test on those of val2014. Instances of a class
    are united; crowd annotations count nowhere.

    Args:
        root: the data set's folder.
        splits_dir: folder with the published lists ``{trn,val}/fold{0..3}.pkl``. ``trn/fold0.pkl`` lists the base classes of
            fold 0 and ``val/fold0.pkl`` its novel ones, so a fold needs the lists that cover its classes: its own two, or
            for training any two of the others. A class that several lists name has the images of all of them. Without
            ``splits_dir`` the lists are derived: a class counts in an image where it covers at least 2,048 pixels.

    Raises:
        DataError: the root lacks the annotations, or there is no list at all.
    """

    interleaved = True
    classes = (
        "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
        "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
        "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
        "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
        "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
        "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
        "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
        "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
    )  # fmt: skip
    epoch_length = 7500

    def __init__(self, root: str, splits_dir: str | None = None) -> None:
        self._root = given_place(root, "data.root")
        for path in map(self._annotations, Subset):
            if not path.is_file():
                raise DataError(f"data.root={root}: no file {path}; give the folder of COCO that holds annotations/")
        self._splits_dir = None if splits_dir is None else given_place(splits_dir, "data.splits_dir")
        self.splits = "derived" if self._splits_dir is None else "published"
        self._lists: dict[Subset, dict[int, list[str]]] = {}
        if self._splits_dir is not None:
            self._lists = {subset: _read_lists(self._splits_dir, subset, len(self.classes)) for subset in Subset}
        self._indices: dict[Subset, CocoIndex] = {}
        self._pairs: dict[Subset, list[Pair]] = {}

    def fold(self, fold: int) -> Fold:
        """See the base class.

        Raises:
            DataError: the lists in ``splits_dir`` lack classes of this fold.
        """
        made = super().fold(fold)
        for subset, wanted in ((Subset.TRAIN, made.base), (Subset.VAL, made.novel)):
            lacking = [self.classes[c] for c in wanted if self._lists and c not in self._lists[subset]]
            if lacking:
                raise DataError(
                    f"data.splits_dir={self._splits_dir}: fold={fold} needs lists of {', '.join(lacking)}; "
                    f"put {subset.value}/fold{fold}.pkl there, or leave data.splits_dir out to derive the lists"
                )
        return made

    def check(self, bad: dict[str, str] | None = None) -> None:
        """Open the annotations and look for every listed image; images are decoded when an episode needs them.

        With ``bad``, every listed image is decoded here once.

        Raises:
            DataError: malformed annotations, or listed images that are missing.
        """
        pairs = {subset: self._listed(subset) if self._lists else self._derived(subset) for subset in Subset}
        names = dict.fromkeys(name for listed in pairs.values() for name, _ in listed)
        missing = self._missing(names)
        if bad is None and missing:
            raise DataError.listing(
                f"data.root={self._root}: {len(missing)} images are missing:",
                missing,
                "Put the images into train2014/ and val2014/, or into train2017/ and val2017/.",
            )
        if bad is not None:
            bad |= {name: f"data.root={self._root}: no image {name}" for name in missing}
            files = {name: Files(self._path(name), self._annotations(_subset(name))) for name in names if name not in bad}
            take_inventory(files, len(self.classes), reader=MaskReader("Sizes()", self._blank, lambda *_: {}), bad=bad)
        self._pairs = pairs

    def _listed(self, subset: Subset) -> list[Pair]:
        pairs = [(name, c) for c, names in sorted(self._lists[subset].items()) for name in names]
        strange = sorted({name for name, _ in pairs if not _is_name(name, subset) or _id(name) not in self._index(subset)})
        if strange:
            raise DataError.listing(
                f"lists in {self._splits_dir} name images that {self._annotations(subset)} lacks:",
                strange,
                "Give the lists that belong to these annotations, or leave data.splits_dir out to derive them.",
            )
        contents = self._contents(subset, {name for name, _ in pairs})
        empty = sum(class_id not in contents[name] for name, class_id in pairs)
        if empty:
            log.warning("data.splits_dir=%s: %d entries name a class that the image does not show", self._splits_dir, empty)
        return pairs

    def _derived(self, subset: Subset) -> list[Pair]:
        index = self._index(subset)
        names = {image_id: _name(subset, image_id) for image_id in index.image_ids()}
        return [(names[image_id], class_id) for image_id, class_id in index.large(_MIN_PIXELS)]

    def _missing(self, names: Iterable[str]) -> list[str]:
        folders = [folder for folder in (*_YEAR_FOLDER.values(), *_OTHER_FOLDERS) if (self._root / folder).is_dir()]
        there = {f"{folder}/{file}" for folder in folders for file in os.listdir(self._root / folder)}
        return [name for name in names if name not in there and there.isdisjoint(_places(name))]

    def pairs(self, subset: Subset) -> list[Pair]:
        """See the base class."""
        return self._pairs[subset]

    def contents(self, subset: Subset) -> Mapping[str, Collection[int]]:
        """See the base class."""
        return self._contents(subset, {name for name, _ in self._pairs[subset]})

    def _contents(self, subset: Subset, names: Collection[str]) -> dict[str, Collection[int]]:
        shown = ((_name(subset, image_id), classes) for image_id, classes in self._index(subset).shown())
        return {name: classes for name, classes in shown if name in names}

    def identity(self) -> str:
        """See the base class."""
        names = {name for pairs in self._pairs.values() for name, _ in pairs}
        return fingerprint({name: Files(self._path(name), self._annotations(_subset(name))) for name in names})

    def image(self, name: str) -> Image.Image:
        """See the base class.

        Raises:
            DataError: the file is missing or damaged, or has another size than the annotations say.
        """
        path = self._path(name)
        try:
            image = read_image(path, turn=False)
        except DataError as error:
            raise DataError(f"{path} cannot be read: {str(error).removeprefix(f'{path}: ')}; download it again") from error
        size = self._index(_subset(name)).size(_id(name))
        if image.size != size:
            raise DataError(
                f"{path}: {image.width} x {image.height} pixels, but its annotations are for {size[0]} x {size[1]}; "
                "take the original image"
            )
        return image

    def _path(self, name: str) -> Path:
        path = next((file for place in _places(name) if (file := self._root / place).is_file()), None)
        if path is None:
            raise DataError(f"data.root={self._root}: no image {name}; put it there")
        return path

    def mask(self, name: str, classes: Collection[int]) -> UInt8[np.ndarray, "height width"]:
        """See the base class; nothing is labelled 255."""
        return self._index(_subset(name)).mask(_id(name), classes)

    def published(self, pairs: list[Pair], shot: int, episodes: int) -> list[Draws]:
        """See the base class."""
        return published_classwise(pairs, shot, episodes)

    def _index(self, subset: Subset) -> CocoIndex:
        if subset not in self._indices:
            self._indices[subset] = open_index(self._annotations(subset), len(self.classes))
        return self._indices[subset]

    def _blank(self, name: str, path: Path) -> np.ndarray:
        """Of a mask the size alone: masks are made of the annotations, which were checked when these were indexed."""
        return np.broadcast_to(np.uint8(0), self._index(_subset(name)).size(_id(name))[::-1])

    def _annotations(self, subset: Subset) -> Path:
        return self._root / "annotations" / f"instances_{_YEAR_FOLDER[subset]}.json"


def _name(subset: Subset, image_id: int) -> str:
    return f"{_YEAR_FOLDER[subset]}/COCO_{_YEAR_FOLDER[subset]}_{image_id:012d}.jpg"


def _subset(name: str) -> Subset:
    return Subset.TRAIN if name.startswith(_YEAR_FOLDER[Subset.TRAIN]) else Subset.VAL


def _places(name: str) -> list[str]:
    """Where an image's file may be, below the root."""
    return [name, *(f"{folder}/{name[-16:]}" for folder in _OTHER_FOLDERS)]


def _id(name: str) -> int:
    return int(name[-16:-4])


def _is_name(name: str, subset: Subset) -> bool:
    return name[-16:-4].isdecimal() and name == _name(subset, _id(name))


def _published_name(entry: str, subset: Subset) -> str:
    """The published name of an image that is listed by another path or by its number; what is none stays as it is."""
    number = re.fullmatch(r"(?:COCO_[a-z]+2014_)?([0-9]{12})", bare(entry))
    others = [folder for other, folder in _YEAR_FOLDER.items() if other is not subset]
    return entry if number is None or any(folder in entry for folder in others) else _name(subset, int(number[1]))


def _read_lists(splits_dir: Path, subset: Subset, classes: int) -> dict[int, list[str]]:
    """Names by class from all the folds' lists for training or for testing, each name once a class.

    Raises:
        DataError: there is none, or one is not of the published form.
    """
    folder = splits_dir / subset.value
    paths = [path for fold in range(4) if (path := folder / f"fold{fold}.pkl").is_file()]
    if not paths:
        raise DataError(f"data.splits_dir: no fold0.pkl to fold3.pkl in {folder}; put them there, or leave the setting out")
    pairs = (pair for path in paths for pair in read_pickle_list(path, classes))
    return by_class(dict.fromkeys((_published_name(entry, subset), c) for entry, c in pairs))
