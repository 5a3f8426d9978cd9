"""Few-shot segmentation with MSHNet (Shi et al., arXiv 2203.09550)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mshnet_pl.inference.segmenter import Segmenter

__version__ = "0.1.0"
__all__ = ["Segmenter"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - as Python asks for it
    """``Segmenter`` when it is asked for: the commands start without PyTorch."""
    if name != "Segmenter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mshnet_pl.inference.segmenter import Segmenter

    return Segmenter
