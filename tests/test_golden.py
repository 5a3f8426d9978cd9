"""The network against the numbers of the authors' published implementation."""

import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

from conftest import SHARED
from mshnet_pl.backbones.resnet import ResNet
from mshnet_pl.deploy.authors_names import authors_name, authors_shape
from mshnet_pl.models.mshnet.model import MSHNet
from mshnet_pl.similarity.cosine import CosineSimilarity
from mshnet_pl.similarity.prototype import PrototypeSimilarity
from mshnet_pl.training.losses import episode_loss

GOLDEN = Path(os.environ.get("MSHNET_GOLDEN", SHARED / "golden"))
CASES = sorted(GOLDEN.glob("*.npz"))
SIMILARITIES = {"cosine": CosineSimilarity, "prototype": PrototypeSimilarity}


def drawing() -> ModuleType:
    path = next((p for p in (GOLDEN / "draw.py", SHARED / "golden" / "draw.py") if p.is_file()), None)
    if path is None:
        pytest.skip(f"no draw.py in {GOLDEN}")
    spec = importlib.util.spec_from_file_location("golden_draw", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def network(meta: dict[str, Any]) -> MSHNet:
    names = list(SIMILARITIES) if meta["similarity"] == "both" else [meta["similarity"]]
    backbone = ResNet(int(meta["backbone"].removeprefix("resnet")), weights="random")
    net = MSHNet(backbone, {name: SIMILARITIES[name] for name in names})
    weight, state = drawing().weight, net.state_dict()
    for name, value in state.items():
        key = authors_name(name).partition(".")[2]
        drawn = weight(key, authors_shape(name, tuple(value.shape)), meta["seed"])
        if drawn is not None:
            state[name] = torch.from_numpy(drawn).view(value.shape)
    net.load_state_dict(state)
    return net


def test_golden_folder_has_cases() -> None:
    if not GOLDEN.is_dir():
        pytest.skip(f"no golden numbers at {GOLDEN}")
    assert CASES


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_network_equals_the_reference(path: Path) -> None:
    case = np.load(path)
    meta = json.loads(str(case["meta"]))
    net = network(meta)
    assert net.learnable_parameters() == meta["params"]
    query, support, support_mask, query_mask = (torch.from_numpy(x) for x in drawing().inputs(meta))
    mask = query_mask.to(torch.uint8)

    with torch.no_grad():
        single = net.eval()(query, support, support_mask).logits
    assert np.abs(single.double().numpy() - case["logits"]).max() < 1e-3

    net.double()
    query, support, support_mask = query.double(), support.double(), support_mask.double()
    with torch.no_grad():
        logits = net(query, support, support_mask).logits
    assert np.abs(logits.numpy() - case["logits"]).max() < 1e-6
    target = interpolate(query_mask[:, None], logits.shape[2:], mode="nearest")[:, 0].long()
    assert abs(cross_entropy(logits, target).item() - meta["eval_loss"]) < 1e-7

    for module in net.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    prediction = net.train()(query, support, support_mask)
    assert np.abs(prediction.logits.detach().numpy() - case["train_logits"]).max() < 1e-6
    loss, _ = episode_loss(prediction, mask, inner_weight=0.3)
    assert abs(loss.item() - meta["train_loss"]) < 1e-7
    loss.backward()
    norms = {
        authors_name(n).removeprefix("merge."): p.grad.norm().item() for n, p in net.named_parameters() if p.grad is not None
    }
    expected = json.loads(str(case["grad_norms"]))
    assert norms.keys() == expected.keys()
    for name, norm in expected.items():
        if norm > 1e-6:
            assert norms[name] == pytest.approx(norm, rel=1e-5), name


@pytest.mark.parametrize(
    ("backbone", "similarity", "count"),
    [
        (50, ("cosine", "prototype"), 29_626_952),
        (50, ("cosine",), 26_808_776),
        (50, ("prototype",), 25_880_392),
        (101, ("cosine", "prototype"), 29_633_480),
        (101, ("cosine",), 26_813_128),
        (101, ("prototype",), 25_882_568),
    ],
)
def test_learnable_parameters(backbone: int, similarity: tuple[str, ...], count: int) -> None:
    net = MSHNet(ResNet(backbone, weights="random"), {name: SIMILARITIES[name] for name in similarity})
    assert net.learnable_parameters() == count


@pytest.mark.parametrize("similarity", ["both", "cosine", "prototype"])
def test_names_are_the_authors(similarity: str) -> None:
    path = SHARED / "golden" / f"keys_{similarity}.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    expected = {name: tuple(shape) for name, shape in json.loads(path.read_text()).items()}
    names = list(SIMILARITIES) if similarity == "both" else [similarity]
    net = MSHNet(ResNet(50, weights="random"), {name: SIMILARITIES[name] for name in names})
    own = {
        authors_name(name).removeprefix("merge."): authors_shape(name, tuple(value.shape))
        for name, value in net.state_dict().items()
        if not name.startswith("backbone.")
    }
    assert own == expected
