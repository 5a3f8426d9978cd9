"""Classes and images of training and test never meet, and a leak is named."""

import pytest

from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.protocol.folds import Fold
from mshnet_pl.data.protocol.leakage import check_disjoint
from mshnet_pl.data.protocol.split_lists import Pair
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.errors import DataError
from mshnet_pl.options import NovelPixels, Subset

CLASSES = ("cat", "dog", "cow")
TRAIN = {0: ["a", "b"], 1: ["b", "c"]}
CONTENTS = {"a": {0}, "b": {0, 1}, "c": {1}}


def test_disjoint_lists_pass() -> None:
    check_disjoint(TRAIN, {2}, CONTENTS, {"d"}, CLASSES)
    check_disjoint(TRAIN, {2}, None, [], CLASSES)


def test_a_hidden_class_with_training_images_is_named() -> None:
    with pytest.raises(DataError, match=r"dog \(class 1\) is tested, but has training images"):
        check_disjoint(TRAIN, {1}, None, (), CLASSES)


def test_an_image_that_shows_a_hidden_class_is_named_unless_that_is_allowed() -> None:
    shown = {**CONTENTS, "c": {1, 2}}
    with pytest.raises(DataError, match="c is for training, but shows cow") as error:
        check_disjoint(TRAIN, {2}, shown, (), CLASSES)
    assert "a is" not in str(error.value) and "b is" not in str(error.value)
    check_disjoint(TRAIN, {2}, None, (), CLASSES)


def test_an_image_on_both_sides_is_named() -> None:
    with pytest.raises(DataError, match="b is for training and for testing") as error:
        check_disjoint(TRAIN, {2}, CONTENTS, {"b", "d"}, CLASSES)
    assert "a is" not in str(error.value)


class _SameImages(Synthetic):
    def pairs(self, subset: Subset) -> list[Pair]:
        return super().pairs(Subset.TRAIN)


class _NovelIsBase(Synthetic):
    def fold(self, fold: int) -> Fold:
        return Fold(base=tuple(range(6)), novel=tuple(range(5, 10)))


@pytest.mark.parametrize("novel_pixels", NovelPixels)
def test_the_data_module_refuses_leaks_at_start(novel_pixels: NovelPixels) -> None:
    with pytest.raises(DataError, match=r"trn-\d+-\d+ is for training and for testing"):
        EpisodeDataModule(_SameImages(32, 6, 3), novel_pixels=novel_pixels).setup()
    EpisodeDataModule(Synthetic(32, 6, 3), novel_pixels=novel_pixels).setup()


def test_the_data_module_refuses_a_fold_that_overlaps() -> None:
    with pytest.raises(DataError, match=r"\(class 5\) is tested, but has training images"):
        EpisodeDataModule(_NovelIsBase(32, 6, 3), novel_pixels=NovelPixels.keep).setup()
