"""Networks of the library timm (Wightman, 2019): any with stages of stride 8, 16 and 32, and plain vision transformers."""

import difflib
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from itertools import islice, pairwise
from typing import Any, NamedTuple

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mshnet_pl.backbones.base import AbstractBackbone, BlockSpec, Maps
from mshnet_pl.backbones.weights import load_weights
from mshnet_pl.episode import MEAN, STD

_STRIDES = (8, 16, 32)
_SIDE = 97
"""Of the synthetic image that shows which sizes a network takes, and what its parts give."""
_caught: ContextVar[dict[int, Tensor]] = ContextVar("caught")
"""What the hooks of a network saw in this thread's forward pass, by the map's number."""


class _Stage(NamedTuple):
    """How a stage's maps leave the network."""

    taps: list[tuple[nn.Module, bool]]
    """Modules, and whether the map is their input instead of their output."""
    channels_last: bool
    """Maps (N, h, w, d) instead of (N, d, h, w)."""


class TimmBackbone(AbstractBackbone):
    """Every residual block's output of the stages of stride 8, 16, 32, or every layer of a plain vision transformer.

    | network | stride of block 2, 3, 4 | maps |
    |---|---|---|
    | with stages: ResNet, ConvNeXt, EfficientNet, Swin, ... | 8, 16, 32 | outputs of the stage's residual blocks |
    | plain: ViT, DeiT, DINOv2, DINOv3, CLIP, ... | the patch's, three times | layers' patch tokens, by thirds of the depth |

    What ends in a ReLU gives what goes into it, as in ``ResNet``. Where a stage's blocks differ in width the maps are those
    of the last width; a stage that is no chain of blocks gives its own output as the only map. Tokens other than patches
    (class, register) are dropped, and no final normalisation is applied.

    Images come normalised with ImageNet's mean and deviation and are brought to the network's own. A transformer's position
    codes are interpolated; images whose sides are no multiple of its patch (or of a windowed network's coarsest stride) are
    enlarged bilinearly to the next one, so that the grid spans the whole image. A network of one size gets every image
    resized to it.

    Args:
        name: timm's, such as ``resnet18``, or with the tag of its weights ``vit_small_patch14_dinov2.lvd142m``.
        weights: ``hub`` or ``imagenet`` (what timm downloads for the name, whatever it was trained on), ``random``, or the
            path of a state dict with timm's names; the classifier's entries may be left over. timm's ``resnet50`` has its
            strides on the 3 x 3 convolutions: for a file of the original ResNet take ``ResNet``.

    Raises:
        ConnectionError: timm's download failed.
        FileNotFoundError: there is no such file.
        ValueError: timm has no such network or no weights of it, it has no three blocks of maps, or a file does not fit.
    """

    any_size = False  # position codes, windows or "same" padding may follow from the size: it depends on the name

    def __init__(self, name: str, weights: str = "hub") -> None:
        super().__init__()
        self.net = _create(name, weights).eval()
        for module in self.net.modules():
            if hasattr(module, "inplace"):
                module.inplace = False  # maps are kept while the network goes on
        stages = {info["reduction"]: info for info in _feature_info(self.net)}  # the last one of each stride
        self._plain = len(stages) == 1 and hasattr(self.net, "forward_intermediates")
        if not self._plain and not stages.keys() >= {*_STRIDES}:
            raise ValueError(
                f"name={name} gives maps of strides {sorted(stages)}; "
                "take a network with stages of stride 8, 16 and 32, or a plain vision transformer"
            )
        own: Mapping[str, Any] = self.net.pretrained_cfg
        mean, std = (torch.tensor(own[key]).view(3, 1, 1) for key in ("mean", "std"))
        self.scale = nn.Buffer(STD.to(std.device) / std, persistent=False)
        self.shift = nn.Buffer((MEAN.to(std.device) - mean) / std, persistent=False)
        self._only: tuple[int, int] | None = None
        """The one size that the network takes, if it takes no other."""
        self._multiple = 1
        """What the sides of images must be multiples of."""
        drawn = self._find_size(torch.zeros(1, 3, _SIDE, _SIDE), [*stages] if self._plain else [1, max(stages)], own)
        found = [] if self._plain else _find_maps(name, self.net, [stages[stride] for stride in _STRIDES], drawn)
        self._layout = [(len(stage.taps), stage.channels_last) for stage in found]
        for number, (module, at_input) in enumerate(tap for stage in found for tap in stage.taps):
            module.register_forward_hook(partial(_catch, number, at_input))
        with torch.no_grad():
            maps = self.features(drawn)
        strides = [*stages] * len(maps) if self._plain else _STRIDES
        self.blocks = tuple(BlockSpec(f.shape[1], f.shape[2], stride) for f, stride in zip(maps, strides, strict=True))
        self.freeze()

    def maps(self, images: Float[Tensor, "n 3 height width"]) -> Maps:
        """See the class."""
        images = self._fit(images * self.scale + self.shift)
        if self._plain:
            maps = self.net.forward_intermediates(images, norm=False, output_fmt="NCHW", intermediates_only=True)
            ends = [len(maps) * i // len(_STRIDES) for i in range(len(_STRIDES) + 1)]
            return [maps[start:end] for start, end in pairwise(ends)]
        caught: dict[int, Tensor] = {}
        token = _caught.set(caught)
        try:
            self.net.forward_features(images)
        finally:
            _caught.reset(token)
        in_order = iter([caught[number] for number in sorted(caught)])
        blocks = [([*islice(in_order, count)], last) for count, last in self._layout]
        return [[x.movedim(-1, 1) for x in maps] if last else maps for maps, last in blocks]

    def _fit(self, images: Tensor) -> Tensor:
        """Resize where the network does not take the size."""
        height, width = self._only or (-(-side // self._multiple) * self._multiple for side in images.shape[2:])
        if (height, width) == images.shape[2:]:
            return images
        return interpolate(images, (height, width), mode="bilinear", align_corners=False)

    def _find_size(self, drawn: Tensor, multiples: Sequence[int], own: Mapping[str, Any]) -> Tensor:
        """Settle on the first of ``multiples`` whose sizes work, or on the network's own size; gives the fitted image."""
        for multiple in multiples:
            self._multiple = multiple
            fitted = self._fit(drawn)
            try:
                with torch.no_grad():
                    self.net.forward_features(fitted)
                return fitted
            except (AssertionError, RuntimeError, ValueError):  # timm has no common way to say that a size does not fit
                continue
        self._only = own["input_size"][1:]
        return self._fit(drawn)


def _catch(number: int, at_input: bool, module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
    """A forward hook."""
    caught = _caught.get(None)
    if caught is not None:
        caught[number] = given[0] if at_input else output


def _create(name: str, weights: str) -> Any:  # noqa: ANN401 - timm is untyped
    """The network without its classifier.

    Raises:
        ConnectionError, FileNotFoundError, ValueError: see ``TimmBackbone``.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=5, cutoff=0.5)
        known = f"did you mean {', '.join(close)}?" if close else "timm.list_models() has them all"
        raise ValueError(f"name={name}: timm {timm.__version__} has no such network; {known}")
    hub = weights in ("hub", "imagenet")
    try:
        net = _build(name, pretrained=hub)
    except OSError as error:  # the hub's errors among them
        raise ConnectionError(
            f"weights={weights}: timm's weights of {name} could not be downloaded ({error}); "
            "download them elsewhere and give the file's path"
        ) from error
    except RuntimeError as error:  # an unknown tag, or no weights at all
        tagged = ", ".join(timm.list_pretrained(f"{name.partition('.')[0]}.*")) or "no weights"
        raise ValueError(f"name={name}: {error} timm has {tagged}; or give a file of weights") from error
    if not hub and weights != "random":
        classifier = net.pretrained_cfg.get("classifier") or "head"
        load_weights(
            net, weights, classifier if isinstance(classifier, str) else min(classifier, key=len)
        )  # head, head_dist
    return net


def _build(name: str, pretrained: bool) -> Any:  # noqa: ANN401 - timm is untyped
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0, dynamic_img_size=True)
    except TypeError:  # a network without position codes has no such argument
        return timm.create_model(name, pretrained=pretrained, num_classes=0)


def _find_maps(name: str, net: Any, stages: Sequence[Mapping[str, Any]], drawn: Tensor) -> list[_Stage]:  # noqa: ANN401 - untyped
    """Where the maps of every stage leave ``net``, read off a forward pass.

    Raises:
        ValueError: a stage without an output of its own.
    """
    calls: list[tuple[nn.Module, Any]] = []
    handles = [module.register_forward_hook(lambda m, _, y: calls.append((m, y))) for module in net.modules()]
    with torch.no_grad():
        net.forward_features(drawn)
    for handle in handles:
        handle.remove()
    outputs = dict(calls)
    found = []
    for info in stages:
        stage = net.get_submodule(info["module"])
        whole = outputs.get(stage)
        if not isinstance(whole, Tensor) or whole.dim() != 4 or info["num_chs"] not in (whole.shape[1], whole.shape[3]):
            raise ValueError(
                f"name={name} has no single map of stride {info['reduction']}; take a network whose stages have one output"
            )
        residuals = [part for part in _residuals(stage) if outputs[part].shape == whole.shape]
        if not residuals or outputs[residuals[-1]] is not whole:
            residuals = [stage]
        taps = [_before_relu(part, calls) for part in residuals]
        found.append(_Stage(taps, channels_last=whole.shape[1] != info["num_chs"]))
    return found


def _residuals(stage: nn.Module) -> list[nn.Module]:
    """The blocks that a stage chains; none where it is built otherwise."""
    inside = getattr(stage, "blocks", stage)
    parts = [*inside.children()]
    alike = len({type(part) for part in parts}) == 1 and all([*part.children()] for part in parts)
    return parts if alike or isinstance(inside, nn.Sequential | nn.ModuleList) else []


def _before_relu(part: nn.Module, calls: Sequence[tuple[nn.Module, Any]]) -> tuple[nn.Module, bool]:
    """The input of the ReLU that ``part`` ends in, or its output."""
    own = {*part.modules()}
    output = next(y for module, y in reversed(calls) if module is part)
    relu = next((module for module, y in calls if module in own and isinstance(module, nn.ReLU) and y is output), None)
    return (part, False) if relu is None else (relu, True)


def _feature_info(net: Any) -> list[Mapping[str, Any]]:  # noqa: ANN401 - timm is untyped
    """Of every stage or layer the name, the width and the stride."""
    info = getattr(net, "feature_info", None) or []
    return [*getattr(info, "info", info)]
