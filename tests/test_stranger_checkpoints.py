"""Checkpoints that a stranger wrote: what they say reaches nothing outside the run's folder."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mshnet_pl.training.checkpoint_io import AtomicCheckpoints

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists:UserWarning")


class Line(LightningModule):
    """The smallest model that trains."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: Tensor) -> Tensor:
        loss: Tensor = self.layer(batch).square().mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trained(runs: Path, epochs: int, resume: Path | None = None) -> Path:
    """Train with Lightning's ModelCheckpoint; returns its folder."""
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        plugins=[AtomicCheckpoints(runs)], callbacks=[ModelCheckpoint(runs, filename="{epoch}")],
    )  # fmt: skip
    trainer.fit(Line(), DataLoader(torch.ones(2, 1)), ckpt_path=resume, weights_only=True)
    return runs


@pytest.mark.parametrize("form", ["local://{}", "file://{}", "{}"])
def test_a_best_checkpoint_elsewhere_is_not_removed(tmp_path: Path, form: str) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    runs = trained(tmp_path / "runs", epochs=1)
    foreign = runs / "epoch=0.ckpt"
    checkpoint = torch.load(foreign, weights_only=True)
    for state in checkpoint["callbacks"].values():
        state["best_model_path"] = form.format(precious)
    torch.save(checkpoint, foreign)
    trained(runs, epochs=2, resume=foreign)
    assert (precious / "thesis.txt").exists()
    assert (runs / "epoch=1.ckpt").exists()


def test_the_checkpoint_that_a_better_one_replaces_is_removed(tmp_path: Path) -> None:
    assert [path.name for path in trained(tmp_path, epochs=2).iterdir()] == ["epoch=1.ckpt"]
