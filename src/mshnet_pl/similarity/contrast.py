"""How much more a query pixel is like the object than like what surrounds it: this project's own cosine similarity."""

from torch import Tensor

from mshnet_pl.similarity.base import QueryMaps, ShotMaps, SupportMaps
from mshnet_pl.similarity.cosine import CosineSimilarity
from mshnet_pl.similarity.masks import ObjectMask


class ContrastSimilarity(CosineSimilarity):
    """Eq. 5 of the selected support pixels less eq. 5 of all others, for every query pixel."""

    def encode(self, support: SupportMaps, objects: ObjectMask) -> tuple[Tensor, ...]:
        """As the cosine similarity's, of the object and of the rest: (B, L, K, m, d), (B, K), (B, L, K, n, d), (B, K)."""
        rest = (objects.weight == 0).to(objects.weight.dtype)
        return *super().encode(support, objects), *super().encode(support, ObjectMask(rest, rest.sum((2, 3))))

    def compare(self, query: QueryMaps, code: tuple[Tensor, ...]) -> ShotMaps:
        """See the class."""
        return super().compare(query, code[:2]) - super().compare(query, code[2:])
