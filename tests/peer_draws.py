"""Golden cases of the field's methods: where they are, their drawn inputs and weights."""

import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import SHARED

PEERS = Path(os.environ.get("MSHNET_GOLDEN_PEERS", SHARED / "golden" / "peers"))
_DRAWN_AS_MSHNET = ("hsnet", "panet", "pfenet")
"""Methods whose cases are drawn by the older of the two scripts."""


@cache
def draws(name: str) -> ModuleType:
    """``draw`` or ``draw_peers``, from beside the cases or from where the published ones lie."""
    folders = (PEERS, PEERS.parent, SHARED / "golden" / "peers", SHARED / "golden")
    path = next((folder / f"{name}.py" for folder in folders if (folder / f"{name}.py").is_file()), None)
    if path is None:
        pytest.skip(f"no {name}.py in {PEERS}")
    spec = importlib.util.spec_from_file_location(f"golden_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Case:
    """One file of golden numbers."""

    path: Path

    @property
    def title(self) -> str:
        return self.path.relative_to(PEERS).with_suffix("").as_posix()

    @property
    def method(self) -> str:
        """The folder's name, as the published ones are called."""
        known = {"hsnet", "panet", "pfenet", "RPMM", "PPNet", "ASGNet", "CyCTR", "FWB"}
        return next((part for part in reversed(self.path.parts[:-1]) if part in known), "")

    @property
    def folder(self) -> Path:
        """Where the published ``keys_*.json`` of the method are."""
        return next(f for f in (self.path.parent, SHARED / "golden" / "peers" / self.method) if [*f.glob("keys_*.json")])

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.path) as file:
            return dict(file)

    @cached_property
    def meta(self) -> dict[str, Any]:
        meta: dict[str, Any] = json.loads(str(self.arrays["meta"]))
        return meta

    @property
    def draw(self) -> ModuleType:
        return draws("draw" if self.method in _DRAWN_AS_MSHNET else "draw_peers")

    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Query, support, support mask in float64, and the query's mask in uint8."""
        query, support, mask, truth = (torch.from_numpy(x) for x in self.draw.inputs(self.meta))
        return query.double(), support.double(), mask.double(), self._unknown(truth.to(torch.uint8))

    def padded_inputs(self) -> tuple[Tensor, ...]:
        """``inputs``, the query's mask 255 where padded, and where query and supports are padded, as bool."""
        query, support, mask, truth = self.inputs()
        padding, support_padding = (torch.from_numpy(x) == 255 for x in self.draw.padding(self.meta))
        return query, support, mask, truth.masked_fill(padding, 255), padding, support_padding

    def asgnet_masks(self) -> list[np.ndarray]:
        """The masks of the case of seeds alone: four of them are changed by hand."""
        masks = self.draw.inputs(self.meta)[2][:, 0]
        if len(masks) > 3:
            masks[1, 100:330, 60:200] = 1
            masks[2] = 1
            masks[2, 230:240, 200:300] = 0
            masks[3] = 0
            masks[3, 8:200, 0:120] = 1
        return [*masks]

    def _unknown(self, truth: Tensor) -> Tensor:
        share = self.meta.get("unknown", 0)
        drawn = self.draw.stream(self.meta["seed"], "unknown").uniform(size=tuple(truth.shape)) < share
        return truth.masked_fill(torch.from_numpy(drawn), 255)

    def fill(self, method: nn.Module, name: Callable[[str], str]) -> None:
        """Give every entry of the state its drawn value; ``name`` turns ours into the reference's. float64 from then on."""
        state = method.state_dict()
        for own, value in state.items():
            key, shape, seed = name(own), tuple(value.shape), self.meta["seed"]
            first = () if self.method in _DRAWN_AS_MSHNET else (self.method,)
            drawn = self.draw.weight(*first, key, shape, seed)
            if drawn is not None:
                gain = (
                    self.meta.get("gain", 1)
                    if key.endswith("cls.3.weight") or (".3.weight" in key and "inner_cls" in key)
                    else 1
                )
                state[own] = torch.from_numpy(drawn) * gain
        method.load_state_dict(state)
        method.double()

    def panet_features(self) -> dict[str, Tensor]:
        """The maps that stand for the encoder's."""
        meta, draw = self.meta, self.draw
        n, d = meta["grid"], meta["channels"]
        found = {}
        for key, lead in (("query_features", (meta["batch"],)), ("support_features", (meta["batch"], meta["shot"]))):
            x = draw.normal(meta["seed"], key, (*lead, d, n, n)) + draw.normal(meta["seed"], "base", (d,))[:, None, None]
            x[..., n // 2 :] += draw.normal(meta["seed"], "other", (d,))[:, None, None]
            found[key] = torch.from_numpy(x.astype(np.float32)).double()
        return found

    def pfenet_features(self, n: int) -> list[tuple[Tensor, ...]]:
        """Maps of blocks 2 to 4 before their ReLU, of the query and of the supports."""
        meta, draw = self.meta, self.draw
        leads = (("query", (meta["batch"],)), ("support", (meta["batch"], meta["shot"])))
        return [
            tuple(
                torch.from_numpy(draw.normal(meta["seed"], f"{key}_{i}", (*lead, d, n, n))).double().unsqueeze(len(lead))
                for i, d in ((2, 512), (3, 1024), (4, 2048))
            )
            for key, lead in leads
        ]


def cases() -> list[Case]:
    """All of them, by name; a single one that skips where there is none."""
    return [Case(path) for path in sorted(PEERS.rglob("*.npz"))]
