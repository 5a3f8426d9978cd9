"""What a backbone promises: every feature map of its last three blocks, frozen unless it is asked to learn."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor, nn

Features = tuple[Float[Tensor, "_ _ _ _ _"], ...]
"""One (N, L, d, h, w) tensor per block, finest block (block 2) first: the L maps of a block share one size.

In memory the channels d of a pixel lie side by side, so that similarities read whole pixels.
"""

Maps = Sequence[Sequence[Float[Tensor, "_ _ _ _"]]]
"""The L maps (N, d, h, w) of every block."""


@dataclass(frozen=True)
class BlockSpec:
    """The shape of one block's features: ``layers`` maps of ``channels`` channels, ``stride`` pixels apart."""

    layers: int
    channels: int
    stride: int


class AbstractBackbone(nn.Module, ABC):
    """A feature extractor, frozen by default.

    Frozen, its parameters never require gradients; ``trainable``, they do, and it runs with a graph wherever gradients are
    enabled. Either way it stays in eval mode whatever its parents do, so batch statistics cannot drift.
    """

    blocks: tuple[BlockSpec, ...]
    """Block 2, block 3, block 4: finest first."""
    trainable: bool = False
    """Whether training changes its parameters, so that features of an image differ from step to step."""
    any_size: ClassVar[bool] = True
    """Whether one exported graph serves images of every size: not where the padding follows from the size."""

    @abstractmethod
    def maps(self, images: Float[Tensor, "n 3 height width"]) -> Maps:
        """Normalised images (N, 3, H, W) to the maps of every block."""

    def features(self, images: Float[Tensor, "n 3 height width"]) -> Features:
        """``maps`` with those of a block stacked: one (N, L, d, h, w) tensor per block."""
        return tuple(torch.stack([_pixels(x) for x in block], dim=1).permute(0, 1, 4, 2, 3) for block in self.maps(images))

    def forward(self, images: Float[Tensor, "n 3 height width"]) -> Features:
        """``features``, without a graph unless ``trainable``.

        Without one, on a CPU, the images pass one by one: that costs no time, needs less memory, and makes an image's
        features the same to the last bit whatever else is in the batch.
        """
        images = images.contiguous(memory_format=torch.channels_last)
        learning = self.trainable and torch.is_grad_enabled()
        with torch.set_grad_enabled(learning):
            if torch.compiler.is_compiling() or learning or images.device.type != "cpu" or len(images) == 1:
                return self.features(images)
            blocks: list[Tensor] = []
            for n in range(len(images)):
                maps = self.maps(images[n : n + 1])
                if not blocks:
                    blocks = [_empty(len(images), block) for block in maps]
                for features, block in zip(blocks, maps, strict=True):
                    for layer, x in enumerate(block):
                        features[n, layer] = x[0]
            return tuple(blocks)

    def freeze(self, trainable: bool = False) -> None:
        """Call at the end of ``__init__``: eval mode, the faster memory layout, and no gradients unless ``trainable``."""
        self.trainable = trainable
        self.to(memory_format=torch.channels_last)
        self.requires_grad_(trainable)
        self.eval()

    def train(self, mode: bool = True) -> "AbstractBackbone":
        """Stays in eval mode."""
        return super().train(False)


def _pixels(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def _empty(images: int, block: Sequence[Tensor]) -> Tensor:
    """Room for the maps of so many images, (N, L, d, h, w)."""
    _, channels, height, width = block[0].shape
    return block[0].new_empty(images, len(block), height, width, channels).permute(0, 1, 4, 2, 3)


def load_weights(model: nn.Module, path: str | Path, classifier: str) -> None:
    """Load a local ``.pth`` / ``.pt`` / ``.safetensors`` state dict into ``model``; float16 values are accepted.

    Args:
        model: receives the weights, in its own dtype.
        path: the file.
        classifier: prefix of the classifier's entries, the only ones that may be missing or left over.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no state dict, lacks an entry, holds one too many, or one of another shape.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"weights: no file {path}; give a .pth or .safetensors file, 'imagenet' or 'random'")
    load_state(model, read_state_dict(path), classifier, origin=str(path))


def load_state(model: nn.Module, state: Mapping[str, Tensor], classifier: str, origin: str) -> None:
    """``load_weights`` from tensors by name that were read from ``origin``.

    Raises:
        ValueError: an entry is missing, left over, or of another shape.
    """
    own = model.state_dict()
    counters = "num_batches_tracked"  # absent from files older than torch 0.4.1; unused in eval mode
    wanted = {k: v for k, v in own.items() if not k.startswith(classifier)}
    given = {k: v for k, v in state.items() if not k.startswith(classifier)}
    found = {
        "missing": [k for k in wanted if k not in given and not k.endswith(counters)],
        "unexpected": [k for k in given if k not in wanted],
        "of another shape": [
            f"{k} {tuple(given[k].shape)} instead of {tuple(wanted[k].shape)}"
            for k in wanted
            if k in given and given[k].shape != wanted[k].shape
        ],
    }
    wrong = [
        f"{what}: {', '.join(keys[:3])}{f' and {len(keys) - 3} more' if len(keys) > 3 else ''}"
        for what, keys in found.items()
        if keys
    ]
    if wrong:
        raise ValueError(
            f"weights: {origin} does not fit {type(model).__name__} ({'; '.join(wrong)}); "
            "choose the backbone that the file belongs to"
        )
    model.load_state_dict(given, strict=False)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a state-dict file, without executing anything in it.

    Raises:
        ValueError: the file cannot be read, or holds something other than tensors by name.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the two libraries raise a dozen types for a damaged or hostile file
        raise ValueError(f"weights: {path} is not a readable state dict: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"weights: {path} must hold tensors by name, a plain state dict")
    return state


def load_named(model: nn.Module, weights: str, imagenet: str, classifier: str) -> None:
    """Fill ``model`` as ``weights`` says: ``imagenet``, ``random`` (leave as initialised) or a file's path.

    Args:
        model: a torchvision model.
        weights: the setting.
        imagenet: torchvision's name of the ImageNet weights, such as ``ResNet50_Weights.IMAGENET1K_V1``.
        classifier: prefix of the classifier's entries.

    Raises:
        ConnectionError: torchvision's download failed.
        FileNotFoundError: there is no such file.
        ValueError: the file does not fit.
    """
    if weights == "random":
        return
    if weights != "imagenet":
        return load_weights(model, weights, classifier)
    from torchvision.models import get_weight

    url = get_weight(imagenet).url
    try:
        state = torch.hub.load_state_dict_from_url(url, map_location="cpu", weights_only=True)
    except OSError as error:  # urllib's errors among them
        raise ConnectionError(
            f"weights=imagenet: {url} could not be downloaded ({error}); "
            "download it elsewhere and give the file: weights=PATH"
        ) from error
    model.load_state_dict(state)
