"""Which classes a fold tests: contiguous for PASCAL-5i, interleaved for COCO-20i."""

from typing import NamedTuple


class Fold(NamedTuple):
    """Two disjoint groups of classes, 0-based and ascending; without a novel one, every class is a base class."""

    base: tuple[int, ...]
    """Classes that may be seen in training."""
    novel: tuple[int, ...]
    """Classes that are tested, never seen in training."""

    @property
    def tested(self) -> tuple[int, ...]:
        """The novel classes; every class where there are none."""
        return self.novel or self.base


def make_fold(fold: int, classes: int, folds: int = 4, interleaved: bool = False, uneven: bool = False) -> Fold:
    """Fold number ``fold``: novel classes {n fold, ..., n fold + n - 1}, or {fold + folds v} if ``interleaved``.

    Args:
        fold: 0-based.
        classes: how many there are in all, a multiple of ``folds`` unless ``uneven``.
        folds: how many folds.
        interleaved: COCO-20i's way (Nguyen and Todorovic, 2019) instead of PASCAL-5i's (Shaban et al., 2017).
        uneven: the first ``classes % folds`` folds test one class more than the others.

    Raises:
        ValueError: no such fold, or classes that cannot be shared out evenly.
    """
    if not 0 <= fold < folds:
        raise ValueError(f"fold={fold}: there are folds 0 to {folds - 1}")
    if classes % folds and not uneven:
        raise ValueError(f"{classes} classes cannot be shared out evenly among {folds} folds")
    first, last = (n * (classes // folds) + min(n, classes % folds) for n in (fold, fold + 1))
    novel = tuple(range(fold, classes, folds)) if interleaved else tuple(range(first, last))
    return Fold(base=tuple(c for c in range(classes) if c not in novel), novel=novel)
