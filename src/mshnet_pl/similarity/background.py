"""Cosine similarity to what surrounds the object in the supports: this project's own addition to the paper's two."""

from jaxtyping import Float
from torch import Tensor

from mshnet_pl.similarity.cosine import CosineSimilarity
from mshnet_pl.similarity.masks import ObjectMask


class BackgroundSimilarity(CosineSimilarity):
    """Eq. 5 with the support pixels that are not selected in place of those that are.

    The paper's similarities say how much a query pixel is like the object, but no layer's scale of likeness is the same for
    all classes and images; this one tells what the same supports look like elsewhere. A mask of everything gives 0. Its path
    through the symmetric merging block is the prototype's: narrow, with dilated branches.

    Args:
        channels: width d of the block's maps (unused: the similarity has no parameters).
    """

    wide = False
    atrous = True

    def encode(
        self, support: Float[Tensor, "batch shots layers channels height width"], objects: ObjectMask
    ) -> tuple[Tensor, ...]:
        """As the cosine similarity's, of the other pixels: whole, not weighted by a soft mask."""
        rest = (objects.weight == 0).to(objects.weight.dtype)
        return super().encode(support, ObjectMask(rest, rest.sum((2, 3))))
