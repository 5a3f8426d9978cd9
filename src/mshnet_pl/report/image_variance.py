"""The variance of a sum over episodes that share images.

A score is, to first order, a sum over episodes of their influence on it. The influence of an episode of class c with query q
and supports s_1 ... s_K is modelled as

    a_q + b_{s_1} + ... + b_{s_K} + e,

effects of the query and of each support, which an image brings to every episode that it serves in, and the episode's own
rest. Images of a class are exchangeable, so their pairs (a, b) are independent and equally distributed. The variances of a,
b and e and the covariance of a and b follow from four quadratic forms, whose expectations are linear in them: analysis of
variance by moments (Henderson, 1953; for readers and cases Gallas, 2006). The sum over all pairs of episodes that share an
image (Cameron, Gelbach and Miller, 2011; Aronow, Samii and Assenova, 2015) estimates the same, but is far too small where
nearly all pairs do, as with five supports out of twenty images.
"""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from mshnet_pl.report.episode_images import EpisodeImages

_SINGULAR = 1e-9  # of the largest singular value


class Components(NamedTuple):
    """Variances of one class's influences."""

    rest: float
    query: float
    support: float
    covariance: float
    """Of an image's effects as query and as support."""


class Spread(NamedTuple):
    """How a sum of influences varies with the choice of images and episodes."""

    variance: float
    freedom: float
    """Degrees of freedom of that variance, after Satterthwaite; kurtosis lowers them."""
    by_image: Float64[np.ndarray, "images"]
    """Sum of the influences of every image's episodes."""


class ClassDesign:
    """Who is query and support in the episodes of a class.

    Args:
        rows: their places among all rows.
        stratum: of each row; influences are compared within strata alone.
        query: image of each row.
        supports: images of each row.
    """

    def __init__(
        self,
        rows: Int64[np.ndarray, "N"],
        stratum: Int64[np.ndarray, "N"],
        query: Int64[np.ndarray, "N"],
        supports: Int64[np.ndarray, "N K"],
    ) -> None:
        self.rows, self._stratum = rows, np.unique(stratum, return_inverse=True)[1]
        self._group = np.unique(np.column_stack([query, np.sort(supports, 1)]), axis=0, return_inverse=True)[1].ravel()
        self.images, where = np.unique(np.column_stack([query, supports]), return_inverse=True)
        where = where.reshape(len(rows), -1)
        every = np.arange(len(rows))
        self._query, self._support = np.zeros((2, len(rows), len(self.images)))
        self._query[every, where[:, 0]] = 1
        np.add.at(self._support, (every[:, None], where[:, 1:]), 1)
        sizes = np.bincount(self._group).astype(float)
        query_sums, support_sums = self._query.sum(0), self._support.sum(0)
        self._total = np.array(
            [sizes @ sizes, query_sums @ query_sums, support_sums @ support_sums, 2 * query_sums @ support_sums]
        )

    def components(self, influence: Float64[np.ndarray, "N"]) -> Components:
        """Variances by moments; of influences whose mean in every stratum has been taken off."""
        return Components(*(self._solve @ self._forms(self._centred(influence))))

    def variance(self, influence: Float64[np.ndarray, "N"]) -> float:
        """Of the influences' sum, given how many episodes each stratum has."""
        return float(self._total @ self.components(influence))

    def by_image(self, influence: Float64[np.ndarray, "N"]) -> Float64[np.ndarray, "images"]:
        """Sum over the episodes of each image; an image that is two supports of an episode counts twice."""
        return influence @ (self._query + self._support)

    def between_strata(self, influence: Float64[np.ndarray, "N"]) -> float:
        """Variance of the influences' sum as the number of each stratum's episodes varies."""
        return float((influence - self._centred(influence)) @ influence)

    def _centred(self, values: Float64[np.ndarray, "N ..."]) -> Float64[np.ndarray, "N ..."]:
        sizes = np.bincount(self._stratum)
        sums = np.zeros((len(sizes), *values.shape[1:]))
        np.add.at(sums, self._stratum, values)
        return values - (sums.T / sizes).T[self._stratum]

    def _grouped(self, values: Float64[np.ndarray, "N ..."]) -> Float64[np.ndarray, "groups ..."]:
        """Sums over rows with the same images, which are one episode drawn again."""
        sums = np.zeros((self._group.max() + 1, *values.shape[1:]))
        np.add.at(sums, self._group, values)
        return sums

    def _forms(self, influence: Float64[np.ndarray, "N"]) -> Float64[np.ndarray, "4"]:
        own, query, support = self._grouped(influence), influence @ self._query, influence @ self._support
        return np.array([own @ own, query @ query, support @ support, query @ support])

    @cached_property
    def _solve(self) -> Float64[np.ndarray, "4 4"]:
        """From the quadratic forms to the components that they are expected to come from."""
        sizes = np.bincount(self._stratum)
        shares = np.zeros((self._group.max() + 1, len(sizes)))  # a group's rows in every stratum
        np.add.at(shares, (self._group, self._stratum), 1)
        scaled = shares / np.sqrt(sizes)
        counts = shares.sum(1)
        rest = counts @ counts - 2 * counts @ (scaled**2).sum(1) + ((scaled.T @ scaled) ** 2).sum()
        z = {"q": self._centred(self._query), "s": self._centred(self._support)}
        own = {a: self._grouped(z[a]) for a in z}
        g = {a + b: z[a].T @ z[b] for a in z for b in z}

        def expected(a: str, b: str) -> list[float]:
            """Expectation of the form of roles a and b, by component."""
            return [
                float((own[a] * own[b]).sum()),
                float((g[a + "q"] * g[b + "q"]).sum()),
                float((g[a + "s"] * g[b + "s"]).sum()),
                float((g[a + "q"] * g[b + "s"] + g[a + "s"] * g[b + "q"]).sum()),
            ]

        of_rest = [rest, *(float((own[a] * own[b]).sum()) for a, b in ("qq", "ss")), 2 * float((own["q"] * own["s"]).sum())]
        return np.linalg.pinv(np.array([of_rest, *(expected(a, b) for a, b in ("qq", "ss", "qs"))]), rcond=_SINGULAR)


class Design:
    """The episodes of some tests on the same classes, which may share images.

    Args:
        tests: the images of each test's episodes; rows of influences are theirs, one test after the other.
    """

    def __init__(self, tests: Sequence[EpisodeImages]) -> None:
        query = [name for test in tests for name in test.query]
        supports = [names for test in tests for names in test.supports]
        self.names = sorted({*query, *(name for names in supports for name in names)})
        """Distinct images."""
        place = {name: i for i, name in enumerate(self.names)}
        self.query = np.array([place[name] for name in query])
        """Place in ``names`` of every row's query."""
        self.supports = np.array([[place[name] for name in names] for names in supports])
        """Places in ``names`` of every row's supports."""
        ends = np.cumsum([len(test.query) for test in tests]).tolist()
        self.rows = {test: slice(end - len(test.query), end) for test, end in zip(tests, ends, strict=True)}
        """Where every test's rows are."""
        class_id = np.array([c for test in tests for c in test.class_id])
        stratum = np.repeat(np.arange(len(tests)), [len(test.query) for test in tests])
        of_class = {c: np.flatnonzero(class_id == c) for c in np.unique(class_id).tolist()}
        self.classes = {
            c: ClassDesign(rows, stratum[rows], self.query[rows], self.supports[rows]) for c, rows in of_class.items()
        }

    def spread(self, influence: Float64[np.ndarray, "rows"]) -> Spread:
        """How the sum of the rows' influences varies; images that serve several classes tie these together."""
        total, variance, scale, error = np.zeros(len(self.names)), 0.0, 0.0, 0.0
        for own in self.classes.values():
            values = influence[own.rows]
            sums = own.by_image(values)
            total[own.images] += sums
            variance += own.variance(values) + own.between_strata(values)
            scale += sums @ sums
            error += ((sums**2 - (sums**2).mean()) ** 2).sum()
        variance = max(float(variance + total @ total - scale), float(influence @ influence))
        return Spread(variance, 2 * scale**2 / error if error > 0 else np.inf, total)


@lru_cache(maxsize=64)
def design(tests: tuple[EpisodeImages, ...]) -> Design:
    """The design of these tests, once."""
    return Design(tests)
