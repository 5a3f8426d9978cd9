"""What a network's weights were trained on, from its first training to its last, and which tested classes were among it."""

import re
from collections.abc import Mapping, Sequence
from os.path import abspath, basename
from typing import Any

from mshnet_pl.errors import ConfigError
from mshnet_pl.results import Training
from mshnet_pl.utils.records import as_record
from mshnet_pl.utils.targets import class_name, public

KEY = "trainings"
"""Of the list in a checkpoint's hyperparameters, and in a result's ``training``."""
_SOURCES = ("mshnet_pl.data.sources",)
_VOC = {
    "airplane": "aeroplane", "couch": "sofa", "motorcycle": "motorbike",
    "tv": "tvmonitor",
}  # fmt: skip
"""PASCAL VOC's names of COCO's classes, where they differ by more than spaces."""


def trainings(known: Mapping[str, Any], name: str) -> list[Training]:
    """The trainings that a checkpoint's weights went through; of a file that lists none, what its settings tell.

    Raises:
        ConfigError: the list in it is none.
    """
    if KEY not in known:
        return [_told(known["config"])]
    try:
        return [as_record(Training, one) for one in known[KEY]]
    except TypeError as error:
        raise ConfigError(f"{name} does not say what it was trained on: {error}") from error


def this_training(config: Mapping[str, Any], classes: Sequence[str]) -> Training:
    """What a run with that configuration trains."""
    return Training(_data(config), config["fold"], [*classes], config["init_from"] is not None)


def record(past: Sequence[Training], config: Mapping[str, Any], tested: Sequence[str]) -> dict[str, Any]:
    """The fields of a result's ``training`` that say what was trained, and which of how many tested classes."""
    data = _data(config)
    known = {_plainly(name) for one in past for name in one.classes or ()}
    for one in past:
        if one.classes is None and one.data == data and one.fold != config["fold"]:  # of a fold whose classes it trained
            known |= set(map(_plainly, tested))
    trained = [name for name in tested if _plainly(name) in known]
    told = {KEY: [vars(one) for one in past], "tested_on": data}
    return {**told, "tested_classes": len(tested), "tested_classes_trained": trained}


def _told(config: Mapping[str, Any]) -> Training:
    """What the settings tell of a training that nobody listed."""
    from mshnet_pl.data.sources.base import AbstractSource  # only here: it needs pycocotools

    fold = config["fold"] if isinstance(config["fold"], int) else None
    classes = None
    try:
        source = public((config["data"]["source"] or {}).get("_target_", ""), _SOURCES)
        if fold is not None and issubclass(source, AbstractSource):
            classes = source.base_classes(fold)
    except (ValueError, ImportError):  # others' data, or no such fold
        pass
    return Training(_data(config), fold, classes)


def _data(config: Mapping[str, Any]) -> str:
    """What a table calls the data: the source's class, of one's own images with the name of their folder or manifest."""
    source = config["data"]["source"] or {}
    name = class_name(source.get("_target_"))
    place = source.get("manifest") or config["data"].get("root")
    return f"{name} {basename(abspath(place))}" if name == "Folder" and isinstance(place, str) else name


def _plainly(name: str) -> str:
    """A class's name as it is compared between data sets."""
    letters = re.sub(r"[\W_]", "", name.casefold())
    return _VOC.get(letters, letters)
