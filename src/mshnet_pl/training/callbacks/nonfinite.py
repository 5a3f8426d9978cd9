"""No step is made of a loss or gradient that is not finite."""

import io
import json
import logging
import shlex
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from mshnet_pl.config.stored import files_read
from mshnet_pl.episode import Episode
from mshnet_pl.errors import NotFinite
from mshnet_pl.training.checkpoint_io import LAST
from mshnet_pl.utils.distributed import gather_objects
from mshnet_pl.utils.files import write_whole

log = logging.getLogger(__name__)

NONFINITE = "nonfinite"
"""Of the files in a run's folder, and of the entry in the one that holds the weights."""
_MOST = 20
"""Skipped steps in a row that end a run all the same: it will not recover."""


class NonfiniteGuard(pl.Callback):
    """Ends training before such a step, with what repeats it, or leaves the step out.

    A step that is left out changes neither weights, nor the optimizer's memory, nor statistics of batches. Where gradients
    are accumulated, the whole step is left out. With several processes all do the same.

    Args:
        folder: of the run; takes ``nonfinite.json`` (what happened, with which episodes) and ``nonfinite.ckpt`` (the
            network before the step).
        skip: leave the step out.
    """

    def __init__(self, folder: Path, skip: bool) -> None:
        self._folder, self._skip = folder, skip
        self.skipped = 0
        """How many steps were left out, those before an interruption among them."""
        self._in_a_row = 0
        self._batches: list[Tensor] = []
        self._buffers: list[tuple[Tensor, Tensor]] = []
        self._loss = 0.0
        self._wrong = ""

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Episode, batch_idx: int
    ) -> None:
        """Remember what the step is about to change without the optimizer."""
        if not self._batches:
            learning = (part for part in pl_module.modules() if part.training)
            self._buffers = [(buffer, buffer.clone()) for part in learning for buffer in part.buffers(recurse=False)]
        self._batches.append(batch.number)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Look at the loss.

        Raises:
            NotFinite: it is not finite, and the step is not to be left out.
        """
        self._loss = float(loss.detach()) * trainer.accumulate_grad_batches
        if _anywhere(trainer, not torch.isfinite(loss)):
            self._found(trainer, pl_module, "loss")

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer) -> None:
        """Look at the gradient, and leave out what is to be left out.

        Raises:
            NotFinite: it is not finite, and the step is not to be left out.
        """
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None  # overflows are then common, and its matter
        if not self._wrong and not scaled:
            gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
            if _anywhere(trainer, not torch.isfinite(get_total_norm(gradients))):
                self._found(trainer, pl_module, "gradient")
        if self._wrong:
            for parameter in pl_module.parameters():
                parameter.grad = None
            self._restore()
            self.skipped += 1
        self._in_a_row = self._in_a_row + 1 if self._wrong else 0
        self._batches, self._wrong = [], ""

    def state_dict(self) -> dict[str, Any]:
        """The count."""
        return {"skipped": self.skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped, self._in_a_row = state_dict["skipped"], state_dict["in_a_row"]

    def _restore(self) -> None:
        with torch.no_grad():
            for buffer, before in self._buffers:
                buffer.copy_(before)

    def _found(self, trainer: pl.Trainer, pl_module: pl.LightningModule, what: str) -> None:
        self._wrong = what
        batches = [batch for own in gather_objects([batch.tolist() for batch in self._batches]) for batch in own]
        record = {
            "what": what,
            "loss": repr(self._loss),
            "step": trainer.global_step,
            "seed": pl_module.hparams["config"].get("seed"),
            "batches": batches,
            "episodes": [_described(trainer, number) for batch in batches for number in dict.fromkeys(batch)],
        }
        told = (
            f"step {trainer.global_step + 1}: the {what} is not finite (loss {self._loss:g}), of seed {record['seed']} and\n"
            + "\n".join(f"  {_line(episode)}" for episode in record["episodes"])
        )
        if self._skip and self._in_a_row + 1 < _MOST:
            log.warning("%s\nthe step is left out", told)
            return
        self._restore()
        checkpoint = self._folder / f"{NONFINITE}.ckpt"
        self._save(trainer, pl_module, checkpoint, record)
        last = self._folder / "checkpoints" / LAST
        again = f" ckpt_path={shlex.quote(str(last))}, which resumes from the last checkpoint" if last.exists() else ""
        files = [f" {key}={shlex.quote(path)}" for key, path in files_read(pl_module.hparams["config"]).items()]
        raise NotFinite(
            f"{told}\n{checkpoint} keeps the network before the step; this repeats the step and says where it begins:\n"
            f"  mshnet-train replay ckpt={shlex.quote(str(checkpoint))}{''.join(files)}\n"
            + (
                f"{_MOST} such steps in a row: training does not recover; lower optimizer.lr, or find the cause"
                if self._skip
                else f"Lower optimizer.lr, find the cause, or leave such steps out: loss.nonfinite=skip{again}"
            )
        )

    def _save(self, trainer: pl.Trainer, pl_module: pl.LightningModule, path: Path, record: dict[str, Any]) -> None:
        state = trainer.strategy.lightning_module_state_dict()
        if not trainer.is_global_zero:
            return
        content = io.BytesIO()
        torch.save({"state_dict": state, "hyper_parameters": dict(pl_module.hparams), NONFINITE: record}, content)
        write_whole(path, content.getvalue())
        write_whole(path.with_suffix(".json"), f"{json.dumps(record, indent=1)}\n".encode())


def _anywhere(trainer: pl.Trainer, wrong: bool) -> bool:
    """Whether it is so in any process."""
    return bool(trainer.strategy.reduce_boolean_decision(bool(wrong), all=False))


def _described(trainer: pl.Trainer, number: int) -> dict[str, Any]:
    """Number, class, query and supports of a training episode, a class after the other."""
    datamodule = trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it untyped
    draws = datamodule.training_draws(number)
    classes = [datamodule.class_names[draw.class_id] for draw in draws]
    supports = [list(draw.supports) for draw in draws]
    return {"number": number, "classes": classes, "query": draws[0].query, "supports": supports}


def _line(episode: dict[str, Any]) -> str:
    shown = (
        f"{name} shown by {', '.join(supports)}"
        for name, supports in zip(episode["classes"], episode["supports"], strict=True)
    )
    return f"episode {episode['number']}: query {episode['query']}, {'; '.join(shown)}"
