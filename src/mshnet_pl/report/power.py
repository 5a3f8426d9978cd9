"""How many images, episodes and trainings a difference of two runs needs, from the variances of recorded ones."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from mshnet_pl.errors import ConfigError
from mshnet_pl.report.bootstrap import LEVEL, fold_influence, fold_spread
from mshnet_pl.report.compare import Pairs, images_of
from mshnet_pl.report.counts import MIOU
from mshnet_pl.report.episode_images import single
from mshnet_pl.report.formats import aligned
from mshnet_pl.report.image_variance import Components
from mshnet_pl.report.row import FoldName

POWER = 80  # percent
_FACTOR = float(ndtri((100 + LEVEL) / 200) + ndtri(POWER / 100))
"""Standard errors between no difference and one that is found with that power."""
EPISODES = (1_000, 5_000, 20_000)
TRAININGS = (1, 3, 5, 10)


class Variances(NamedTuple):
    """Of a difference of mIoU: the mean over folds, in squared percent."""

    shot: int
    classes: dict[FoldName, dict[int, Components]]
    """By fold, then by class, of an episode's influence on the mean over folds, times the class's episodes."""
    images: dict[FoldName, dict[int, int]]
    """How many distinct images each class has in the recorded episodes."""
    training: float | None
    """Between trainings; None where there is one."""

    def variance(
        self, images: Mapping[FoldName, Mapping[int, int | float]], episodes: int | float, trainings: int | float = 1
    ) -> float:
        """Of the difference in a test with other numbers.

        Args:
            images: how many a class has, by fold.
            episodes: of a fold, the same number for each of its classes.
            trainings: of each run.
        """
        found = 0.0
        for fold, by_class in self.classes.items():
            own = episodes / len(by_class)
            for class_id, (rest, query, support, covariance) in by_class.items():
                n = images[fold][class_id]
                of_images = query + self.shot**2 * support + 2 * self.shot * covariance
                found += max(of_images, 0) / n + max(rest + query + self.shot * support, 0) / own
        return found + (self.training or 0.0) / trainings


def variances(pairs: Pairs, shot: int) -> Variances:
    """From tests of two runs on the same episodes.

    Raises:
        ConfigError: a class has a single query image, which says nothing of how it varies.
    """
    for unknown in single(images_of(pairs), "no variance"):
        raise ConfigError(unknown)
    classes: dict[FoldName, dict[int, Components]] = {}
    images: dict[FoldName, dict[int, int]] = {}
    training: list[float | None] = []
    for fold, by_seed in pairs.items():
        of, influence = fold_influence(by_seed, MIOU)
        classes[fold], images[fold] = {}, {}
        for class_id, own in of.classes.items():
            scale = len(own.rows) / len(pairs)
            classes[fold][class_id] = Components(*(scale**2 * part for part in own.components(influence[own.rows])))
            images[fold][class_id] = len(own.images)
        spread = fold_spread(by_seed, MIOU)
        training.append(spread.training_variance * spread.trainings / len(pairs) ** 2 if spread.trainings > 1 else None)
    known = [value for value in training if value is not None]
    return Variances(shot, classes, images, sum(known) if len(known) == len(training) else None)


def markdown(found: Variances, points: Sequence[float], lists: Mapping[FoldName, Mapping[int, int]] | None) -> str:
    """What tests of other sizes would find, and the sizes that given differences need.

    Args:
        found: the recorded variances.
        points: differences in points of mIoU.
        lists: images of every class of the lists to test on, by fold; by default those of the recorded episodes.
    """
    named = {"recorded": found.images} | ({"lists": lists} if lists else {})
    trainings = TRAININGS[:1] if found.training is None else TRAININGS
    sizes = [["images", "of a fold", "episodes a fold", "trainings", "standard error", f"found with {POWER}%"]]
    sizes.append(["---", *["---:"] * 5])
    for (name, images), episodes, count in product(named.items(), EPISODES, trainings):
        error = float(np.sqrt(found.variance(images, episodes, count)))
        of_folds = " / ".join(str(sum(by_class.values())) for by_class in images.values())
        sizes.append([name, of_folds, f"{episodes:,}", str(count), f"{error:.2f}", f"{_FACTOR * error:.1f}"])
    tested, most = [*named.values()][-1], trainings[-1]
    needs = [["difference", "images a class", "episodes a fold", "trainings"], ["---:"] * 4]
    needs += [[f"{x:g}", *_needs(found, (x / _FACTOR) ** 2, tested, most)] for x in points]
    text = [
        "Standard error of the difference of mIoU, and the smallest difference found with that power, in points:",
        aligned(sizes),
        f"What a difference needs, one number at a time. The others are {EPISODES[1]:,} episodes, "
        f"{most} training{'s' if most > 1 else ''}, and the images of the last lines above; - is out of reach.",
        aligned(needs),
    ]
    if found.training is None:
        text.append("One training each: how trainings vary is not known and not in these numbers.")
    return "\n\n".join(text)


def _needs(found: Variances, allowed: float, images: Mapping[FoldName, Mapping[int, int]], trainings: int) -> Iterator[str]:
    """Images a class, episodes a fold and trainings for a variance that is allowed."""
    folds = found.classes.items()
    episodes = EPISODES[1]
    yield _solved(lambda n: found.variance({f: dict.fromkeys(c, n) for f, c in folds}, episodes, trainings), allowed)
    yield _solved(lambda n: found.variance(images, n, trainings), allowed)
    yield "-" if found.training is None else _solved(lambda n: found.variance(images, episodes, n), allowed)


def _solved(variance: Callable[[int | float], float], allowed: float) -> str:
    """The smallest count for which a variance of the form a + b / count is small enough."""
    fixed = 2 * variance(2) - variance(1)
    own = variance(1) - fixed
    return f"{max(int(np.ceil(own / (allowed - fixed))), 1):,}" if allowed > fixed else "-"
