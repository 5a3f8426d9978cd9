"""Digests of files and of weights, checksums of what caches keep."""

import hashlib
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def digest(path: Path, algorithm: str) -> str:
    """Of a file, such as its MD5."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    return digest(path, "sha256")


def checksum(place: str, *content: bytes | memoryview) -> bytes:
    """Four bytes that tell damage, and content that lies in another place; never zeros alone, which a hole in a file holds.

    Args:
        place: what says where the content belongs: names of the file and of the record.
        content: of the record, piece by piece.
    """
    value = zlib.crc32(place.encode(errors="surrogateescape"))
    for part in content:
        value = zlib.crc32(part, value)
    return (value or 1).to_bytes(4, "little")


def stamp(path: Path) -> tuple[str, int, int, int]:
    """Absolute path, size, and when content and entry were changed last (ns): what tells a file from its other versions.

    Also from one of the same size whose time of modification was set back, as copies and archives set it.
    """
    found = path.stat()
    return str(path.absolute()), found.st_size, found.st_mtime_ns, found.st_ctime_ns


def weights_digest(module: "nn.Module") -> str:
    """SHA-256 of a module's state dict: names and values, in the order of the names, wherever the module lies."""
    import torch  # only here: what reads results needs no PyTorch

    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
