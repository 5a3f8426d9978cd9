"""The light network's own convolutions in the precision that training uses."""

import torch
from torch import nn

from mshnet_pl.models.mshnet.lite import separate
from mshnet_pl.models.mshnet.merging import AtrousShotConv


def test_gradients_in_bf16_do_not_depend_on_what_lies_in_freed_memory() -> None:
    torch.manual_seed(0)
    holder = nn.Sequential(AtrousShotConv(48)).train()
    separate(holder)
    holder.to(memory_format=torch.channels_last)
    x = torch.randn(4, 48, 33, 33).contiguous(memory_format=torch.channels_last)
    gradients = []
    for precise in (True, False, False):
        garbage = [torch.full((size,), torch.nan) for size in (1000, 10_000, 50_000, 300_000) for _ in range(8)]
        del garbage
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
            loss = holder(x).float().square().mean()
        holder.zero_grad()
        loss.backward()
        gradients.append({name: p.grad.clone() for name, p in holder.named_parameters() if p.grad is not None})
    for name, expected in gradients[0].items():
        for found in gradients[1:]:
            assert (found[name] - expected).norm() < 0.1 * expected.norm() + 1e-3, name
