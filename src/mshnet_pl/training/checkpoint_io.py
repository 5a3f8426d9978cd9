"""Checkpoints that survive what happens to a run."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from mshnet_pl.utils.files import write_whole

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints whole or not at all, and keeps the one before ``last.ckpt`` as ``previous.ckpt``.

    A ``last.ckpt`` that this process neither wrote nor read takes no good one's place: it may be damaged. Only files beside
    those that it wrote are removed: a resumed checkpoint may name any path as the best one so far.
    """

    def __init__(self) -> None:
        self._known: set[Path] = set()
        self._folders: set[Path] = set()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:
        """See the base class.

        Raises:
            DataError: the disk is full, or the folder cannot be written.
        """
        place = Path(path)
        content = io.BytesIO()
        torch.save(checkpoint, content)
        keep = place.name == LAST and place in self._known
        write_whole(place, content.getvalue(), place.with_name(PREVIOUS) if keep else None)
        self._known.add(place)
        self._folders.add(place.resolve().parent)

    def remove_checkpoint(self, path: str | Path) -> None:
        """See the base class; a folder, a URL or a file elsewhere stays."""
        place = Path(path)
        if place.resolve().parent in self._folders and place.is_file():
            place.unlink()

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,  # noqa: ANN401 - torch's
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """See the base class; nothing in the file is executed, whatever ``weights_only`` says."""
        loaded = super().load_checkpoint(path, map_location or (lambda storage, _: storage), weights_only=True)
        self._known.add(Path(path))
        return loaded
