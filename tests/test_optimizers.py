"""Groups of parameters, and SGD beside AdamW, against PyTorch's own."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from conftest import Command
from mshnet_pl.training.optimizers import SGDAndAdamW, grouped, scale_rates
from mshnet_pl.training.schedules import polynomial
from tiny import TINY

GROUPS: Mapping[str, Mapping[str, Any]] = {
    "biases": {"pattern": "^1.*bias", "factor": 0.1, "weight_decay": 0.0, "adamw": True, "constant": True},
    "second": {"pattern": "^1", "factor": 0.1, "weight_decay": 0.2, "adamw": True, "constant": True},
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def step(net: nn.Module, number: int) -> None:
    net.zero_grad()
    net(torch.randn(5, 3, generator=torch.Generator().manual_seed(number))).square().sum().backward()


def test_sgd_and_adamw_equal_both_alone() -> None:
    own, alone = network(), network()
    optimizer = SGDAndAdamW(grouped(own.named_parameters(), GROUPS), lr=0.05, momentum=0.9, weight_decay=0.1)
    scale_rates(optimizer)
    schedule = polynomial(optimizer, total_steps=10, steps_per_epoch=10)
    sgd = torch.optim.SGD(alone[0].parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)
    decays = [{"params": [alone[1].weight], "weight_decay": 0.2}, {"params": [alone[1].bias], "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(decays, lr=0.005)
    falling = polynomial(sgd, total_steps=10, steps_per_epoch=10)
    for number in range(6):
        if number == 3:  # an interrupted run goes on
            state = deepcopy(optimizer.state_dict())
            optimizer = SGDAndAdamW(grouped(own.named_parameters(), GROUPS), lr=0.05, momentum=0.9, weight_decay=0.1)
            optimizer.load_state_dict(state)
            schedule.optimizer = optimizer
        step(own, number)
        step(alone, number)
        for one in (optimizer, sgd, adamw):
            one.step()
        schedule.step()
        falling.step()
        torch.testing.assert_close([*own.parameters()], [*alone.parameters()])


def test_what_does_not_learn_and_what_no_pattern_finds() -> None:
    net = network()
    net[0].weight.requires_grad_(False)
    groups = grouped(net.named_parameters(), {"second": {"pattern": "^1", "factor": 3}, "none": {"pattern": "^7"}})
    assert [len(group["params"]) for group in groups] == [1, 2]  # type: ignore[index]
    assert len(grouped(net.named_parameters(), {})) == 3


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("+groups.a={factor: 2}", "groups.a.pattern=None"),
        ("+groups.a={pattern: '('}", "groups.a.pattern=("),
        ("+groups.a={pattern: a, rate: 2}", "groups.a.rate=2"),
        ("+groups.a={pattern: a, factor: -1}", "groups.a.factor=-1"),
        ("+groups.a={pattern: a, adamw: true}", "groups.a.adamw=true"),
        ("groups=3", "groups=3"),
        ("loss.criterion=dice loss.foreground_weight=2", "loss.foreground_weight=2"),
    ],
)
def test_impossible_groups_are_refused(command: Command, setting: str, said: str) -> None:
    parts = setting.split(" loss") if setting.startswith("loss") else [setting]
    done = command("mshnet-train", *TINY, parts[0], *(f"loss{part}" for part in parts[1:]))
    assert done.code == 2 and said in done.err, done.err
