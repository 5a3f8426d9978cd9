"""Cosine similarity to the most similar pixel of the object: this project's own addition to the paper's two."""

from jaxtyping import Float
from torch import Tensor

from mshnet_pl.similarity.cosine import CosineSimilarity, positive_cosines


class NearestSimilarity(CosineSimilarity):
    """The largest ``ReLU(cosine)`` to a selected support pixel, where eq. 5 has the mean of all.

    A part of an object is like the same part in the support and unlike the others, which a mean over all parts hides. Its
    path through the symmetric merging block is the prototype's: narrow, with dilated branches.

    Args:
        channels: width d of the block's maps (unused: the similarity has no parameters).
    """

    wide = False
    atrous = True

    def compare(
        self, query: Float[Tensor, "batch layers channels height width"], code: tuple[Tensor, ...]
    ) -> Float[Tensor, "batch shots layers height width"]:
        """See the class."""
        pixels, _ = code
        return positive_cosines(self._from_mean(query), pixels, largest=True).transpose(1, 2)
