"""What a few-shot segmentation method promises."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from mshnet_pl.episode import Prediction


class AbstractMethod(nn.Module, ABC):
    """Segments queries with the help of K masked supports. It never sees a query's mask."""

    @abstractmethod
    def forward(
        self,
        query: Float[Tensor, "batch 3 height width"],
        support: Float[Tensor, "batch shots 3 height width"],
        support_mask: Float[Tensor, "batch shots height width"],
    ) -> Prediction:
        """Normalised images and 0/1 masks to logits; any number of shots."""

    def learnable_parameters(self) -> int:
        """Number of parameters that training changes."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)
