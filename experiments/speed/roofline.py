"""What one H200 could do at best, on paper: every operator's products at its bf16 peak, or its bytes at its memory's rate.

    python experiments/speed/roofline.py

MSHNet with ResNet-50, 473 x 473, 1-shot, an object of a quarter of every support, everything in bf16: operators, products
and bytes follow from tensors without content (PyTorch's ``meta`` device), which take the network's way on a GPU. Every
operator reads its inputs from memory and writes its outputs there, as without fusion. Computed, not measured.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from mshnet_pl.backbones.resnet import ResNet
from mshnet_pl.models.mshnet.model import MSHNet
from mshnet_pl.report.formats import aligned
from mshnet_pl.similarity.cosine import CosineSimilarity
from mshnet_pl.similarity.prototype import PrototypeSimilarity
from mshnet_pl.training.losses import episode_loss

FLOPS, BYTES = 989e12, 4.8e12  # a second: NVIDIA's data sheet, dense bf16
LAUNCH = 5e-6  # seconds that Python needs to give a GPU one operator
SIZE, GRIDS = 473, (60, 30, 15)
KINDS = {"convolution": "convolutions", "mm": "products", "batch_norm": "BatchNorm"}


class Cost(NamedTuple):
    """Of operators; seconds by the larger of both for every operator, and where none takes less than ``LAUNCH``."""

    calls: int = 0
    flop: float = 0.0
    moved: float = 0.0
    bound: float = 0.0
    launched: float = 0.0


class Counted(TorchDispatchMode):
    """Costs of what is computed within, by kind."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.costs: dict[str, list[Cost]] = {}
        self._sizes = itertools.cycle(side * side // 4 for side in GRIDS)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN204
        """Adds an operator that is no view."""
        if func == torch.ops.aten._local_scalar_dense.default:
            return next(self._sizes)  # pixels of the largest object on a block's grid, the only number that is asked for
        out = func(*args, **(kwargs or {}))
        if func.is_view or func.overloadpacket.__name__ in ("detach", "_unsafe_view", "empty_like", "empty", "new_empty"):
            return out
        name, count = func.overloadpacket.__name__, flop_registry.get(func.overloadpacket)
        flop = count(*args, **(kwargs or {}), out_val=out) if count else 0
        tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
        moved = sum(min(x.numel() * x.element_size(), x.untyped_storage().nbytes()) for x in tensors)
        kind = next((kind for part, kind in KINDS.items() if part in name), "everything else")
        bound = max(flop / FLOPS, moved / BYTES)
        self.costs.setdefault(kind, []).append(Cost(1, flop, moved, bound, max(bound, LAUNCH)))
        return out


class OnGPU(TorchFunctionMode):
    """Within, tensors say that they are on a GPU, and convolutions and linear layers take bf16, as autocast makes them."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN204
        """Leaves them where they are."""
        if func == Tensor.device.__get__:
            return torch.device("cuda")
        kwargs = kwargs or {}
        if func in (torch.conv2d, torch.nn.functional.linear):
            args = tuple(x.bfloat16() if isinstance(x, Tensor) else x for x in args)
        return func(*args, **(kwargs | {"device": "meta"} if kwargs.get("device") is not None else kwargs))


def step(batch: int, training: bool) -> Callable[[], None]:
    """A forward pass, or a step with its gradients and SGD."""
    with torch.device("meta"):
        net = MSHNet(ResNet(weights="random"), {"cosine": CosineSimilarity, "prototype": PrototypeSimilarity})
        net = net.bfloat16().train(training)
        images = torch.empty(batch, 2, 3, SIZE, SIZE, dtype=torch.bfloat16)
        mask, truth = torch.empty(batch, 1, SIZE, SIZE), torch.empty(batch, SIZE, SIZE, dtype=torch.uint8)
    optimizer = torch.optim.SGD((p for p in net.parameters() if p.requires_grad), 0.001, 0.9, foreach=True)

    def run() -> None:
        with torch.set_grad_enabled(training), OnGPU():
            prediction = net(images[:, 0], images[:, 1:], mask)
        if training:
            optimizer.zero_grad()
            episode_loss(prediction, truth)[0].backward()
            optimizer.step()

    return run


def main() -> None:
    """Print a table of each."""
    for what, batch in (("training step", 8), ("test", 8), ("test", 20)):
        run = step(batch, what != "test")
        for counted in (Counted(), Counted()):  # the first folds norms and makes the optimizer's state
            with counted:
                run()
        table = [["", "operators", "TFLOP", "GB", "bound, ms", "with launches, ms"], ["---", *["---:"] * 5]]
        for kind, costs in [*sorted(counted.costs.items()), ("all", [*itertools.chain(*counted.costs.values())])]:
            calls, flop, moved, bound, launched = map(sum, zip(*costs, strict=True))
            rounded = f"{flop / 1e12:.2f}", f"{moved / 1e9:.1f}", f"{1e3 * bound:.1f}", f"{1e3 * launched:.1f}"
            table.append([kind, str(calls), *rounded])
        print(f"{what}, batch {batch}\n\n{aligned(table)}\n")
        rates = [f"{batch / seconds:,.0f}" for seconds in (flop / FLOPS, bound, launched, calls * LAUNCH)]
        print(f"episodes a second at most by products, operators, operators with launches, launches: {', '.join(rates)}\n")


if __name__ == "__main__":
    main()
