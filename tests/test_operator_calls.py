"""What a GPU is given to do: the same results as on a CPU, in as many operators for every batch and number of shots."""

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from mshnet_pl.backbones.base import AbstractBackbone
from mshnet_pl.backbones.efficientnet import EfficientNetLite0
from mshnet_pl.backbones.resnet import ResNet
from mshnet_pl.models.mshnet.lite import MSHNetLite
from mshnet_pl.models.mshnet.merging import SimilarityPath
from mshnet_pl.models.mshnet.model import MSHNet
from mshnet_pl.similarity import pixels
from mshnet_pl.similarity.contrast import ContrastSimilarity
from mshnet_pl.similarity.cosine import CosineSimilarity
from mshnet_pl.similarity.masks import ObjectMask
from mshnet_pl.similarity.prototype import PrototypeSimilarity

SIZE = 33


class AsOnGPU(TorchFunctionMode):
    """Within, tensors say that they are on a GPU; they stay where they are."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN204
        if func == Tensor.device.__get__:
            return torch.device("cuda")
        kwargs = kwargs or {}
        return func(*args, **(kwargs | {"device": "cpu"} if kwargs.get("device") is not None else kwargs))


class Calls(TorchDispatchMode):
    """How many operators are computed within, without views and the copies that one of them may need."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN204
        self.count += not func.is_view and func.overloadpacket.__name__ not in ("clone", "_unsafe_view")
        return func(*args, **(kwargs or {}))


def network(kind: type[MSHNet], backbone: type[AbstractBackbone] = EfficientNetLite0) -> MSHNet:
    torch.manual_seed(0)
    similarities = {"cosine": CosineSimilarity, "prototype": PrototypeSimilarity, "contrast": ContrastSimilarity}
    net = kind(backbone(weights="random"), similarities, width=8)
    for module in net.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    return net


def episodes(batch: int, shots: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(batch + shots)
    images = torch.randn(batch, shots + 1, 3, SIZE, SIZE, generator=generator)
    mask = torch.zeros(batch, shots, SIZE, SIZE)
    for b in range(batch):
        for k in range(shots):
            mask[b, k, 5 + 7 * b : 40 + 3 * k, 10 + 5 * k : 50] = 1  # objects of different sizes
    return images[:, 0], images[:, 1:], mask


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("kind", "backbone"), [(MSHNet, ResNet), (MSHNetLite, EfficientNetLite0)])
def test_as_many_operators_for_every_batch_and_number_of_shots(
    kind: type[MSHNet], backbone: type[AbstractBackbone], training: bool
) -> None:
    net = network(kind, backbone).train(training)
    counts = []
    for batch, shots in ((1, 1), (1, 1), (1, 5), (4, 1), (4, 5)):
        inputs = episodes(batch, shots)
        with torch.no_grad(), AsOnGPU(), Calls() as calls:
            net(*inputs)
        counts.append(calls.count)
    assert len({*counts[1:]}) == 1, counts  # the first folds the backbone's norms


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", [MSHNet, MSHNetLite])
def test_network_as_on_a_cpu(kind: type[MSHNet], training: bool) -> None:
    """Logits, what the norms learn, and gradients."""
    found = []
    for mode in (nullcontext(), AsOnGPU()):
        net = network(kind).double().train(training)
        query, support, mask = (x.double() for x in episodes(2, 3))
        with mode:
            logits = net(query, support, mask).logits
        logits.square().mean().backward()
        found.append((logits.detach(), net.state_dict(), {n: p.grad for n, p in net.named_parameters()}))
    for of_cpu, of_gpu in zip(*found, strict=True):
        torch.testing.assert_close(of_gpu, of_cpu)


@pytest.mark.parametrize("serving", [False, True], ids=["supports of every query", "supports of all queries"])
@pytest.mark.parametrize("similarity", [CosineSimilarity, ContrastSimilarity])
def test_similarities_in_parts(similarity: type[CosineSimilarity], serving: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 3, 5, 4, 6, generator=generator, dtype=torch.float64)
    support = torch.randn(1 if serving else 2, 2, 3, 5, 4, 6, generator=generator, dtype=torch.float64)
    weight = (
        torch.rand(len(support), 2, 4, 6, generator=generator, dtype=torch.float64).round(decimals=1).clamp(min=0.4) - 0.4
    )
    objects, own = ObjectMask(weight, (weight > 0).sum((2, 3)).double()), similarity(5)
    expected = own.compare(query, own.encode(support, objects))
    for held in (1, 1000, 2**28):
        monkeypatch.setattr(pixels, "_MAX_AT_ONCE", held)
        with AsOnGPU(), Calls() as calls:
            torch.testing.assert_close(own.compare(query, own.encode(support, objects)), expected)
        assert held == 1 or calls.count < 200


def test_shots_at_once_train_as_one_after_the_other() -> None:
    torch.manual_seed(0)
    maps = torch.randn(3, 4, 2, 7, 6, dtype=torch.float64)
    states, gradients = [], []
    for mode in (nullcontext(), AsOnGPU()):
        torch.manual_seed(1)
        path = SimilarityPath(2, 8, atrous=True).double().train()
        for module in path.modules():
            if isinstance(module, nn.Dropout2d):
                module.p = 0.0
        for _ in range(2):
            with mode:
                merged = path(maps)
        merged.square().sum().backward()
        states.append(path.state_dict())
        gradients.append({name: p.grad for name, p in path.named_parameters()})
    torch.testing.assert_close(states[1], states[0])
    torch.testing.assert_close(gradients[1], gradients[0])
