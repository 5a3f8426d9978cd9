"""A trained network as one file that runs without this package."""

import importlib.util
import io
import os
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mshnet_pl.deploy import output
from mshnet_pl.errors import ConfigError
from mshnet_pl.inference import model_card, pretrained
from mshnet_pl.models.base import AbstractMethod
from mshnet_pl.models.builder import prediction_settings
from mshnet_pl.options import MAX_SIDE
from mshnet_pl.utils.files import whole_path
from mshnet_pl.utils.hashing import sha256

_AXES = {
    "query": ("batch", None, "height", "width"),
    "support": ("batch", "shots", None, "support_height", "support_width"),
    "support_mask": ("batch", "shots", "mask_height", "mask_width"),
}
_SIDES = {"height": 96, "width": 112, "support_height": 128, "support_width": 144, "mask_height": 160, "mask_width": 176}
"""Lengths to trace with; unequal, so that the trace does not take two for one."""

ExampleInputs = dict[str, Tensor]
Axes = dict[str, dict[int, str]]
"""By input: the axes of any length, by name."""


class ExportedNetwork(nn.Module):
    """What an exported file computes.

    Args:
        method: the trained network.
    """

    def __init__(self, method: AbstractMethod) -> None:
        super().__init__()
        self.method = deepcopy(method)
        self.to(memory_format=torch.contiguous_format).requires_grad_(False).eval()

    def forward(
        self,
        query: Float[Tensor, "batch 3 height width"],
        support: Float[Tensor, "batch shots 3 support_height support_width"],
        support_mask: Float[Tensor, "batch shots support_height support_width"],
    ) -> Float[Tensor, "batch 2 height width"]:
        """Normalised images and 0/1 masks, float32, to logits of background and foreground at the query's size."""
        of_query = self.method.backbone(query)
        of_support = self.method.backbone(support.flatten(0, 1))
        code = self.method.encode(tuple(f.unflatten(0, support.shape[:2]) for f in of_support), support_mask)
        return self.method.decode(of_query, code).resized(query.shape[2:])


def export(
    ckpt: str | os.PathLike[str],
    kind: str,
    out: Path,
    size: int | None = None,
    shots: int | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the network of a checkpoint as ONNX or as a torch.export archive, with its model card.

    Batch, shots and image size stay free unless they are given; a backbone whose padding follows from the image size
    has the checkpoint's.

    Args:
        ckpt: a checkpoint of ``mshnet-train``, or the name of a network, see ``inference.pretrained``.
        kind: ``onnx`` or ``torch_export``.
        out: the file.
        size: side of the images; None leaves it free.
        shots: number of supports; None leaves it free.
        overwrite: replace a file that is there.

    Returns:
        The path of the file; its model card lies beside it.

    Raises:
        ConfigError: a setting that is impossible, or a file that would be overwritten.
        DataError: the disk is full, or the folder cannot be written.
    """
    absent = [name for name in _NEEDS.get(kind, ()) if importlib.util.find_spec(name) is None]
    if absent:
        raise ConfigError(f"format={kind} needs {' and '.join(absent)}; pip install 'mshnet_pl[export]'")
    output.check_free(out, Path(ckpt), overwrite)
    network = pretrained.load(ckpt)
    trained = network.trained
    if not trained.method.exportable:
        raise ConfigError(
            f"ckpt={ckpt}: {type(trained.method).__name__} computes a graph of another shape for every mask; take the "
            "checkpoint itself, with mshnet-predict or mshnet_pl.Segmenter"
        )
    if size is None and not trained.method.backbone.any_size:
        size = trained.image_size
    inputs, axes = _example(size, shots)
    metadata = {"image_size": str(size or trained.image_size)}
    with whole_path(output.card_path(out)) as card, whole_path(out) as partial:
        with torch.no_grad():
            _WRITERS[kind](ExportedNetwork(trained.method), inputs, axes, metadata, partial)
        made_of = f"exported from {Path(ckpt).name}, SHA-256 {network.sha256}{_left_out(trained.prediction)}"
        card.write_text(model_card.text(
            out.name, sha256(partial), network.describe(), trained.image_size, made_of, _signature(size, shots)
        ))  # fmt: skip
    return out


def _left_out(prediction: Mapping[str, Any]) -> str:
    """What the network's own predictions do beside running it, which no file holds."""
    plain = prediction_settings({}, MAX_SIDE)
    changes = [f"{key}={value}" for key, value in prediction.items() if value != plain.get(key)]
    return f"; without {', '.join(changes)}, with which its scores were measured" if changes else ""


def _example(size: int | None, shots: int | None) -> tuple[ExampleInputs, Axes]:
    """ExampleInputs to trace with, and which of their axes stay free."""
    lengths = {"batch": 2, "shots": shots or 3} | {axis: size or side for axis, side in _SIDES.items()}
    fixed = ({"shots"} if shots else set()) | ({*_SIDES} if size else set())
    inputs = {name: torch.rand([lengths.get(axis or "", 3) for axis in axes]) for name, axes in _AXES.items()}
    free = {n: {i: a for i, a in enumerate(axes) if a and a not in fixed} for n, axes in _AXES.items()}
    return inputs | {"support_mask": inputs["support_mask"].round()}, free


def _signature(size: int | None, shots: int | None) -> str:
    """The inputs and the output in words."""
    side, k = (f"{size}, {size}" if size else "H, W"), shots or "K"
    other = side.replace("H", "h").replace("W", "w")
    return (
        f"query (B, 3, {side}), support (B, {k}, 3, {other}), support_mask (B, {k}, {other}), all float32, "
        f"to logits (B, 2, {side}) of background and foreground; "
        "a pixel is foreground where the second is larger, softmax over axis 1 gives probabilities"
    )


def _write_onnx(
    network: ExportedNetwork, inputs: ExampleInputs, axes: Axes, metadata: Mapping[str, str], path: Path
) -> None:
    owner = {axis: name for name in reversed(axes) for axis in axes[name].values()}  # a name is given once, and spreads
    named = {
        name: {i: axis if owner[axis] == name else torch.export.Dim.AUTO for i, axis in places.items()}
        for name, places in axes.items()
    }
    program = torch.onnx.export(
        network,
        tuple(inputs.values()),
        input_names=[*inputs],
        dynamo=True,
        dynamic_shapes=named,
        output_names=["logits"],
        external_data=False,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(metadata)
    program.save(path)


def _write_torch_export(
    network: ExportedNetwork, inputs: ExampleInputs, axes: Axes, metadata: Mapping[str, str], path: Path
) -> None:
    free = {name: dict.fromkeys(places, torch.export.Dim.AUTO) for name, places in axes.items()}
    program = torch.export.export(network, tuple(inputs.values()), dynamic_shapes=free)
    program.example_inputs = None  # which would take twice the network's place
    content = io.BytesIO()  # PyTorch's own writer does not tell a full disk from other errors
    torch.export.save(program, content, extra_files=dict(metadata))
    path.write_bytes(content.getvalue())


_WRITERS: Mapping[str, Callable[[ExportedNetwork, ExampleInputs, Axes, Mapping[str, str], Path], None]] = {
    "onnx": _write_onnx,
    "torch_export": _write_torch_export,
}
_NEEDS = {"onnx": ("onnx", "onnxscript")}
