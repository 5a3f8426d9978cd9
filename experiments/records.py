"""The recorded runs of ``experiments/``: one archive in the repository, folders once it is unpacked.

``python experiments/records.py`` unpacks them beside the pages, which name the folders. With ``--pack`` it packs what is
there, after a run was added.
"""

import gzip
import sys
import tarfile
from pathlib import Path

HERE = Path(__file__).parent
ARCHIVE = HERE / "records.tar.gz"
PATTERNS = ("**/result.json", "**/episodes_*.csv", "**/controls_*.csv", "episodes/*.json.gz", "field/**/bench.json")
"""Result files, pixel counts of every test and control episode, names of the episodes' images, and benchmarks."""


def unpack(target: Path = HERE) -> None:
    """Write every record below ``target``; a file that is there is replaced."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(target, filter="data")


def pack(source: Path = HERE) -> int:
    """Make the archive of the records below ``source``, the same bytes for the same files; return how many there are."""
    paths = sorted({path for pattern in PATTERNS for path in source.glob(pattern)})
    with ARCHIVE.open("wb") as file, gzip.GzipFile("", "wb", mtime=0, fileobj=file) as packed:
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path in paths:
                entry = tarfile.TarInfo(path.relative_to(source).as_posix())
                entry.size = path.stat().st_size
                with path.open("rb") as content:
                    archive.addfile(entry, content)
    return len(paths)


if __name__ == "__main__":
    if sys.argv[1:] == ["--pack"]:
        print(f"{ARCHIVE}: {pack()} files")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        unpack()
