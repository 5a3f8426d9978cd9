"""PFENet's prior, and CyCTR's: how much a query pixel is like the most similar one of the support, without parameters."""

from jaxtyping import Float
from torch import Tensor

from mshnet_pl.models.layers import resize

_EPS = 1e-7


def prior_mask(
    query: Float[Tensor, "batch channels h w"], support: Float[Tensor, "_ shots channels h2 w2"]
) -> Float[Tensor, "batch 1 h w"]:
    """The largest cosine of every query pixel to a support pixel, scaled to 0..1 over the image; the mean over shots.

    Args:
        query: features after ReLU.
        support: masked features after ReLU, of batch B, or of batch 1 that serves all queries.
    """
    pixels, others = query.flatten(2)[:, None], support.flatten(3)  # (B, 1, d, hw), (B or 1, K, d, h2 * w2)
    norms = others.norm(dim=2)[..., None] * pixels.norm(dim=2)[:, :, None]  # (B, K, h2 * w2, hw)
    largest = (others.transpose(2, 3) @ pixels / (norms + _EPS)).amax(2)  # (B, K, hw)
    low, high = largest.amin(2, keepdim=True), largest.amax(2, keepdim=True)
    scaled = (largest - low) / (high - low + _EPS)
    return scaled.mean(1, keepdim=True).unflatten(2, query.shape[2:])


def masked_features(
    x: Float[Tensor, "batch shots channels h w"], mask: Float[Tensor, "batch shots height width"]
) -> Float[Tensor, "batch shots channels h w"]:
    """Features after their ReLU, times the masks, which are resized bilinearly to them."""
    return x.relu() * resize(mask, x.shape[3:])[:, :, None].to(x.dtype)
