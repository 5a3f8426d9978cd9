"""The official archives of a data set: which are lacking, where they come from, and their unpacking."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mshnet_pl.data.prepare.archives import unpack
from mshnet_pl.data.prepare.download import fetch
from mshnet_pl.data.prepare.ledger import Ledger
from mshnet_pl.errors import DataError


class Piece(NamedTuple):
    """One official archive and what its content is recognised by."""

    name: str
    address: str
    size: str
    """About, as its makers state it."""
    landmarks: tuple[str, ...]
    """Paths below the root that are there once it is unpacked."""
    wanted: tuple[str, ...]
    """Beginnings of the paths that are unpacked."""
    prefix: str = ""
    """Leading folders of the archive that the root does not have."""
    md5: str | None = None

    def archive(self, root: Path) -> Path:
        """Where the archive lies, or should."""
        return root / self.address.rpartition("/")[2]

    def lacks(self, root: Path) -> list[str]:
        """The landmarks that are not there."""
        return [landmark for landmark in self.landmarks if not (root / landmark).exists()]


def obtain(root: Path, pieces: Sequence[Piece], download: bool) -> None:
    """Have every piece unpacked in ``root``.

    An archive that lies there and was unpacked before is not opened again while all of its files are there.

    Raises:
        DataError: names every piece that is missing, with its address, size and place; or every archive that is damaged.
    """
    missing = [piece for piece in pieces if piece.lacks(root) and not piece.archive(root).is_file()]
    if missing and not download:
        raise DataError.listing(
            f"data.root={root}: pieces are missing:",
            [line for piece in missing for line in _directions(root, piece)],
            "Run this again then; or run it with --download now, which fetches them.",
            most=2 * len(missing),
        )
    for piece in missing:
        fetch(piece.address, piece.archive(root), piece.md5)
    problems = []
    for piece in pieces:
        try:
            if piece.archive(root).is_file():
                _unpack_once(root, piece)
            if lacking := piece.lacks(root):
                problems.append(f"{piece.archive(root)}: holds no {', no '.join(lacking)}; take the official archive")
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))


def _directions(root: Path, piece: Piece) -> tuple[str, str]:
    return (
        f"{piece.name}: no {', no '.join(piece.lacks(root))}",
        f"    fetch {piece.address} (about {piece.size}) and put it at {piece.archive(root)}",
    )


def _unpack_once(root: Path, piece: Piece) -> None:
    archive = piece.archive(root)
    ledger = Ledger(root, archive.name)
    known = ledger.results()
    if known and all(path.is_file() and ledger.is_made_from(path, archive) for path in known):
        return
    files = unpack(archive, root, piece.prefix, piece.wanted)
    for path in files:
        ledger.note(root / path, archive)
    ledger.save()
    print(f"{archive.name}: {len(files):,} files are in place")
