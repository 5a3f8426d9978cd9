"""``mshnet-train replay``: repeat a training step whose loss or gradient was not finite, and say where that begins."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from mshnet_pl.episode import Episode
from mshnet_pl.errors import ConfigError
from mshnet_pl.runs import build
from mshnet_pl.runs.job import Run
from mshnet_pl.training.callbacks import NONFINITE
from mshnet_pl.training.module import EpisodicModule
from mshnet_pl.utils.checkpoint_file import fill, read_checkpoint


def repeat(run: Run) -> str:
    """Compute the loss and the gradient of the kept step's batches again.

    Args:
        run: the configuration in the checkpoint with the command line's changes, such as ``trainer.precision=64-true``;
            ``ckpt`` names the file.

    Returns:
        What came of it, a few lines a batch.

    Raises:
        UserError: what the user can mend.
    """
    raw, config = run.raw, run.config
    assert config.ckpt is not None
    kept = read_checkpoint(Path(config.ckpt), finite=False)
    if NONFINITE not in kept:
        raise ConfigError(f"ckpt={config.ckpt} keeps no step to repeat; give the {NONFINITE}.ckpt of a run's folder")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    datamodule = build.make_datamodule(run)
    datamodule.setup()
    module = build.make_module(run, pretrained=False)
    fill(module, Path(config.ckpt), kept)
    trainer = pl.Trainer(
        accelerator=raw.trainer.accelerator, devices=1, precision=raw.trainer.precision, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    plugin, device = trainer.precision_plugin, trainer.strategy.root_device
    plugin.convert_module(module)
    module.to(device).train()
    lines = [f"{config.ckpt}: step {kept[NONFINITE]['step'] + 1}, seed {config.seed}"]
    wrong = [name for name, value in module.method.named_parameters() if not value.isfinite().all()]
    lines.append(f"weights before the step: {_some(wrong) + ' not finite' if wrong else 'finite'}")
    for numbers in kept[NONFINITE]["batches"]:
        batch = datamodule.training_batch([*dict.fromkeys(numbers)])
        batch = Episode(*(part.to(device) for part in plugin.convert_input(batch)))
        with plugin.forward_context():
            lines += _batch(module, batch)
    return "\n".join(lines)


def _batch(module: EpisodicModule, batch: Episode) -> Iterator[str]:
    yield f"episodes {', '.join(map(str, dict.fromkeys(batch.number.tolist())))}:"
    found: list[str] = []
    handles = [
        part.register_forward_hook(lambda part, _, output, name=name: found.append(name) if not _finite(output) else None)
        for name, part in module.method.named_modules()
        if not [*part.children()]
    ]
    loss, parts, _ = module.loss(batch)
    for handle in handles:
        handle.remove()
    module.zero_grad()
    loss.backward()
    gradients = {name: p.grad for name, p in module.method.named_parameters() if p.grad is not None}
    wrong = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
    yield f"  loss {loss.item()!r}: {', '.join(f'{name} {part.item():g}' for name, part in parts.items())}"
    yield f"  first layer whose output is not finite: {found[0] if found else 'none'}"
    yield f"  norm of the gradient {float(get_total_norm([*gradients.values()])):g}; not finite: {_some(wrong) or 'none'}"


def _finite(output: Any) -> bool:  # noqa: ANN401 - whatever a layer gives
    if isinstance(output, Tensor):
        return bool(output.isfinite().all())
    if isinstance(output, Mapping):
        return all(map(_finite, output.values()))
    return all(map(_finite, output)) if isinstance(output, tuple | list) else True


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
