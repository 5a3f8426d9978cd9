"""A trained MSHNet as ONNX Runtime and OpenVINO take it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import nncf
import numpy as np
import onnxruntime as ort
import openvino as ov
import torch
from torch import Tensor, nn

from mshnet_pl.deploy.export import ExportedNetwork, export
from mshnet_pl.models.mshnet.model import MSHNet

Form = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Query, support and mask to logits."""


class Part(nn.Module):
    """Backbone: an image to its maps (1, h, w, d). Head: similarity maps, by block, then by name, to logits."""

    def __init__(self, method: MSHNet, head: bool) -> None:
        super().__init__()
        self.method, self.head = method, head

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        if not self.head:
            return tuple(x.permute(0, 2, 3, 1) for block in self.method.backbone.maps(*given) for x in block)
        maps = iter(given)
        by_block = {block: {name: next(maps) for name in self.method.similarities} for block in self.method.blocks}
        return (self.method.segment(by_block, given[0].shape[3:]).logits,)


class Networks:
    """The files of engines, each written when it is first asked for."""

    def __init__(self, folder: Path, checkpoint: Path, method: MSHNet, episodes: Sequence[tuple[Tensor, ...]]) -> None:
        self.folder, self.checkpoint, self.method, self.episodes = folder, checkpoint, method, episodes

    def __call__(self, name: str) -> Path:
        """The path of one."""
        path = self.folder / name
        if path.exists():
            return path
        kind, int8 = path.stem.removesuffix("_int8"), path.stem.endswith("_int8")
        if name == "whole.onnx":
            export(self.checkpoint, "onnx", path, self.episodes[0][0].shape[2], shots=1)
        else:
            if int8:  # products of features stay as they are
                data = nncf.Dataset([[x.numpy() for x in given] for given in self._inputs(kind)])
                model = ov.Core().read_model(self(f"{kind}.xml" if kind != "whole" else "whole.onnx"))
                scope = nncf.IgnoredScope(types=["MatMul"], validate=False)
                made = nncf.quantize(model, data, subset_size=len(self.episodes), ignored_scope=scope)
            else:
                method = ExportedNetwork(self.method).method
                assert isinstance(method, MSHNet)
                made = ov.convert_model(torch.export.export(Part(method, kind == "head"), next(self._inputs(kind))))
            ov.save_model(made, path, compress_to_fp16=False)
        return path

    def _inputs(self, kind: str) -> Iterator[tuple[Tensor, ...]]:
        for episode in self.episodes:
            if kind == "head":
                yield tuple(flat(self.method.similarity_maps(*episode)))
            else:
                yield episode if kind == "whole" else episode[:1]


def named(*inputs: Tensor) -> dict[str, np.ndarray]:
    """By the names that an exported network has for them."""
    return {name: x.numpy() for name, x in zip(("query", "support", "support_mask"), inputs, strict=True)}


def flat(maps: Mapping[int, Mapping[str, Tensor]]) -> list[Tensor]:
    """Similarity maps by block, then by name."""
    return [x.float().contiguous() for by_name in maps.values() for x in by_name.values()]


def onnx_form(path: Path) -> Form:
    """ONNX Runtime on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda *inputs: torch.from_numpy(session.run(None, named(*inputs))[0])


def compiled(path: Path, precision: str = "bf16", batch: int = 1) -> Callable[..., list[Tensor]]:
    """OpenVINO on one thread; what is not int8 is computed in ``precision``, bf16 or f32."""
    model = (core := ov.Core()).read_model(path)
    model.reshape({x.any_name: [batch, *[*x.partial_shape][1:]] for x in model.inputs})
    hints = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    network = core.compile_model(model, "CPU", hints)
    return lambda *inputs: [torch.from_numpy(x) for x in network([x.numpy() for x in inputs]).to_tuple()]
