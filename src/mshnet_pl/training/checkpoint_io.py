"""Checkpoints that survive what happens to a run."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from torch import Tensor

from mshnet_pl.utils.files import write_whole

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints whole or not at all, and keeps the one before ``last.ckpt`` as ``previous.ckpt``.

    A ``last.ckpt`` that this process neither wrote nor read takes no good one's place: it may be damaged. A checkpoint that
    is resumed may be a stranger's: of the callbacks' states, numbers are loaded, and paths of files in ``folder``.

    Args:
        folder: the run's; files elsewhere, and others than checkpoints, are never removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._known: set[Path] = set()

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

    def remove_checkpoint(self, path: str | Path) -> None:
        """See the base class; a folder, a URL or a file elsewhere stays."""
        place = Path(path)
        if self._inside(place) and place.suffix == ".ckpt" and place.is_file():
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
        callbacks = loaded.get("callbacks", {})
        loaded["callbacks"] = {name: self._plain(state) for name, state in callbacks.items() if isinstance(state, Mapping)}
        return loaded

    def _plain(self, state: Mapping[Any, Any], depth: int = 0) -> dict[Any, Any]:
        """What a callback goes on with; a path from elsewhere is empty, as where there was no file yet."""
        found: dict[Any, Any] = {}
        for name, value in state.items():
            if isinstance(name, str) and "/" in name and not self._inside(name):
                continue
            if isinstance(value, Mapping) and not depth:  # such as the scores of the best files
                found[name] = self._plain(value, depth + 1)
            elif isinstance(value, str):
                found[name] = value if self._inside(value) else ""
            elif value is None or isinstance(value, bool | int | float | Tensor):
                found[name] = value
        return found

    def _inside(self, path: str | Path) -> bool:
        """Whether it is the folder, or below it."""
        try:
            place = Path(path).resolve()
        except (OSError, ValueError):  # too long, or with a zero byte
            return False
        return "://" not in str(path) and self._folder in (place, *place.parents)
