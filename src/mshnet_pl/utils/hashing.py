"""Digests of files and of weights."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    return _digest(path, "sha256")


def md5(path: Path) -> str:
    """MD5 of a file."""
    return _digest(path, "md5")


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def weights_digest(module: "nn.Module") -> str:
    """SHA-256 of a module's state dict: names and values, in the order of the names, wherever the module lies."""
    import torch  # only here: what reads results needs no PyTorch

    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
