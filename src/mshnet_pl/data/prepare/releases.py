"""The official archives of a data set: which are lacking, where they come from, and their unpacking."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from mshnet_pl.data.prepare.archives import unpack
from mshnet_pl.data.prepare.download import fetch
from mshnet_pl.data.prepare.ledger import FOLDER, Ledger
from mshnet_pl.errors import DataError
from mshnet_pl.utils.hashing import digest


class Archive(NamedTuple):
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

    def path(self, root: Path) -> Path:
        """Where the archive lies, or should."""
        return root / self.address.rpartition("/")[2]

    def lacks(self, root: Path) -> list[str]:
        """The landmarks that are not there."""
        return [landmark for landmark in self.landmarks if not (root / landmark).exists()]


def obtain(root: Path, archives: Sequence[Archive], download: bool, any_archive: bool) -> None:
    """Have every archive unpacked in ``root``.

    An archive that lies there and was unpacked before is not opened again while all of its files are there.

    Args:
        root: the data set's folder.
        archives: what belongs there.
        download: fetch those that are missing.
        any_archive: unpack an archive whose MD5 is not the published one, too.

    Raises:
        DataError: names every archive that is missing, with its address, size and place; or every archive that is damaged.
    """
    missing = [archive for archive in archives if archive.lacks(root) and not archive.path(root).is_file()]
    if missing and not download:
        raise DataError.listing(
            f"data.root={root}: archives are missing:",
            [line for archive in missing for line in _directions(root, archive)],
            "Run this again then; or run it with download=true now, which fetches them.",
            limit=2 * len(missing),
        )
    for archive in missing:
        _fetch_once(root, archive)
    problems = []
    for archive in archives:
        try:
            if archive.path(root).is_file():
                _unpack_once(root, archive, any_archive)
            if lacking := archive.lacks(root):
                problems.append(f"{archive.path(root)}: holds no {', no '.join(lacking)}; take the official archive")
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))


def _directions(root: Path, archive: Archive) -> tuple[str, str]:
    lacking = archive.lacks(root)
    alone = (
        "; copy it from any other folder of this data set, or:"
        if [one.endswith(".txt") for one in lacking] == [True]
        else ""
    )
    return (
        f"{archive.name}: no {', no '.join(lacking)}{alone}",
        f"    fetch {archive.address} (about {archive.size}) and put it at {archive.path(root)}",
    )


def _fetch_once(root: Path, archive: Archive) -> None:
    """Fetch it, or wait for another process that does."""
    locks = root / FOLDER
    locks.mkdir(exist_ok=True)
    with FileLock(locks / f"{archive.path(root).name}.lock"):
        if not archive.path(root).is_file():
            fetch(archive.address, archive.path(root), archive.md5)


def _unpack_once(root: Path, archive: Archive, any_archive: bool) -> None:
    path = archive.path(root)
    ledger = Ledger(root, path.name)
    known = ledger.results()
    if known and all(file.is_file() and ledger.is_made_from(file, path) for file in known):
        return
    if archive.md5 is not None and not any_archive and (found := digest(path, "md5")) != archive.md5:
        raise DataError(
            f"{path}: its MD5 is {found}, the published one {archive.md5}: damaged, or another archive; fetch it again from "
            f"{archive.address}, or give any_archive=true if you trust it"
        )
    files = unpack(path, root, archive.prefix, archive.wanted)
    for file in files:
        ledger.note(root / file, path)
    ledger.save()
    print(f"{path.name}: {len(files):,} files are in place")
