"""Prototypes whose weights the network also meets on classes that they have not seen: this project's own."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mshnet_pl.similarity.prototype import PrototypeSimilarity, generate


class CrossFittedSimilarity(PrototypeSimilarity):
    """Eq. 3 and 4 with several copies of W, each of which never learns from its own part of the classes.

    W learns the base classes, and what merges its maps learns to rely on them as far as they are right on those classes, too
    far for any other. Here class c belongs to copy c mod ``copies``. A training episode of class c uses that copy with a
    chance of ``unseen``, without teaching it: what merges the maps then learns how far to rely on a W that has not seen the
    class. Else it uses another copy, each as likely, and teaches that. The copies start alike. Outside of training
    steps W is their mean, and nothing is computed that the prototype similarity would not.

    So the second of two stacked predictors learns from what the first says of things that were kept from it (Wolpert, Neural
    Networks 1992).

    Args:
        channels: width d of the block's maps; every copy of W has 2 d entries.
        copies: how many.
        unseen: the chance.

    Raises:
        ValueError: fewer than two copies, or a chance outside of 0 to 1.
    """

    def __init__(self, channels: int, copies: int = 3, unseen: int | float = 0.5) -> None:
        super().__init__(channels)
        if copies < 2:
            raise ValueError(f"copies={copies}: give 2 or more; the prototype similarity has one")
        if not 0 <= unseen <= 1:
            raise ValueError(f"unseen={unseen}: give a chance, 0 to 1")
        self.weight = nn.Parameter(self.weight.detach().repeat(copies, 1, 1))  # (copies, 2, d)
        self._unseen = unseen

    def compare(
        self, query: Float[Tensor, "batch layers channels height width"], code: tuple[Tensor, ...]
    ) -> Float[Tensor, "batch shots layers height width"]:
        """See the class."""
        if self.episodes is None or not self.training:
            return generate(query, code, self.weight.mean(0))
        class_id, chance = self.episodes
        step, learns = (part.to(class_id.device) for part in self._choice(chance))
        weights = self.weight[(class_id + step) % len(self.weight)]  # (B, 2, d)
        weights = torch.where(learns[:, None, None], weights, weights.detach())
        alone = ((query[i : i + 1], tuple(part[i : i + 1] for part in code)) for i in range(len(query)))
        return torch.cat([generate(*one, weight) for one, weight in zip(alone, weights, strict=True)])

    def _choice(self, chance: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) how many copies after its own each episode's class uses, and (B,) whether that one learns."""
        learns = chance >= self._unseen
        among_others = (chance - self._unseen) / max(1 - self._unseen, 1e-9) * (len(self.weight) - 1)
        return torch.where(learns, 1 + among_others.long(), 0), learns
