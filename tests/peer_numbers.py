"""How the field's methods are compared with golden numbers, of their outputs, gradients and trainings."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from mshnet_pl.backbones.resnet import ResNet
from mshnet_pl.models.base import AbstractMethod
from peer_draws import Case

Meta = Mapping[str, Any]


def close(found: Tensor | np.ndarray | float, expected: np.ndarray | float, what: str, rtol: float = 1e-9) -> None:
    """Within ``rtol`` of the largest value."""
    own = found.detach().numpy() if isinstance(found, Tensor) else np.asarray(found)
    expected = np.asarray(expected)
    assert own.shape == expected.shape, f"{what}: {own.shape} instead of {expected.shape}"
    worst = np.abs(own - expected).max(initial=0) / max(np.abs(expected).max(initial=0), 1e-300)
    assert worst < rtol or np.abs(own - expected).max(initial=0) < 1e-13, f"{what}: relative difference {worst:.1e}"


def norms_close(method: nn.Module, case: Case, array: str, names: Callable[[str], str]) -> None:
    """Gradient norms by the reference's names, for exactly the parameters that get a gradient."""
    expected = json.loads(str(case.arrays[array]))
    own = {names(n): p.grad.norm().item() for n, p in method.named_parameters() if p.grad is not None}
    assert own.keys() == expected.keys(), f"{array}: {sorted(own.keys() ^ expected.keys())[:6]}"
    largest = max(expected.values())
    for name, norm in expected.items():
        assert abs(own[name] - norm) < max(1e-9 * norm, 1e-11 * largest), f"{array} {name}: {own[name]} instead of {norm}"


def without_dropout(method: nn.Module) -> None:
    for module in method.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0


def fresh(method: nn.Module, training: bool = True) -> None:
    method.zero_grad(set_to_none=True)
    method.train(training)


def resnet(meta: Meta, **options: object) -> ResNet:
    depth = int(re.search(r"\d+", meta.get("backbone", "resnet50"))[0])  # type: ignore[index]
    return ResNet(depth, "random", **options)


def packed(case: Case, labels: Tensor) -> None:
    """Labels (B, S, S) of 0 and 1, exactly."""
    size = case.meta["size"]
    expected = np.unpackbits(case.arrays["prediction"], axis=-1, count=size)
    assert np.array_equal(labels.numpy(), expected), f"{(labels.numpy() != expected).sum()} pixels differ"


def trainings(method: AbstractMethod, meta: Meta) -> Iterator[str]:
    """The prefixes of a case's numbers of training, with the backbone in eval and in train; the method is ready for each."""
    for prefix in ("train_bneval", "train"):
        if f"{prefix}_loss" not in meta:
            continue
        fresh(method)
        if prefix == "train_bneval":
            method.backbone.eval()
        yield prefix
