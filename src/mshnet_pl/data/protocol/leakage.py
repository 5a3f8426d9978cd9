"""Few-shot's first rule, checked: what is tested was never seen in training."""

from collections.abc import Collection, Mapping, Sequence

from mshnet_pl.errors import DataError


def check_disjoint(
    train: Mapping[int, Collection[str]],
    hidden: Collection[int],
    contents: Mapping[str, Collection[int]] | None,
    tested: Collection[str],
    class_names: Sequence[str],
) -> None:
    """Refuse training lists that leak classes or images of validation and test.

    Args:
        train: the training images of every class.
        hidden: novel and held-out classes.
        contents: every class that a training image shows; None where hidden classes may be shown as background.
        tested: images that validation and test draw on.
        class_names: by class.

    Raises:
        DataError: a hidden class has training images, a training image shows a hidden class, or is tested as well.
    """
    names = sorted({name for listed in train.values() for name in listed})
    problems = [f"{class_names[c]} (class {c}) is tested, but has training images" for c in sorted(hidden) if train.get(c)]
    if contents is not None:
        shown = ((name, sorted({*contents[name]} & {*hidden})) for name in names)
        problems += [
            f"{name} is for training, but shows {', '.join(class_names[c] for c in cs)}" for name, cs in shown if cs
        ]
    tested = set(tested)
    problems += [f"{name} is for training and for testing" for name in names if name in tested]
    if problems:
        raise DataError.listing(
            "training and test are not disjoint:", problems, "Mend the lists (data.splits_dir), or the folds of data.source."
        )
