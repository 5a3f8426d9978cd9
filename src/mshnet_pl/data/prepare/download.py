"""Fetching a large file: resumed where it was cut off, and checked."""

from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tqdm import tqdm

from mshnet_pl.errors import DataError
from mshnet_pl.utils.hashing import digest

_CHUNK = 1 << 20
_PATIENCE = 60
"""Seconds without a byte after which a connection counts as lost."""


def fetch(address: str, path: Path, md5: str | None = None) -> None:
    """Fetch ``address`` to ``path``; what arrives goes to ``path.part`` first, and a later call resumes where that ends.

    Args:
        address: an http or https address.
        path: where the file goes once it is whole.
        md5: what its MD5 must be, where one is published.

    Raises:
        DataError: the server cannot be reached or refuses, the connection is lost, or the checksum is another one.
    """
    partial = path.with_name(f"{path.name}.part")
    try:
        expected = _receive(address, partial)
    except (OSError, HTTPException) as error:  # urllib's own errors are OSErrors
        raise DataError(
            f"{address}: {error}; run this again to resume where it stopped, or fetch it by other means and put it at {path}"
        ) from error
    size = partial.stat().st_size
    if expected is not None and size < expected:
        raise DataError(f"{address}: the connection was lost at {size:,} of {expected:,} bytes; run this again to go on")
    if expected is not None and size > expected:
        partial.unlink()
        raise DataError(f"{address}: {partial} had {size:,} of {expected:,} bytes and was removed; run this again")
    if md5 is not None and (found := digest(partial, "md5")) != md5:
        partial.unlink()
        raise DataError(f"{address}: MD5 {found} of what arrived is not the published {md5}; it was removed, run this again")
    partial.replace(path)


def _receive(address: str, partial: Path) -> int | None:
    """Append what is still lacking; returns the size that the whole file should have, where the server says so."""
    start = partial.stat().st_size if partial.is_file() else 0
    request = Request(address, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        response = urlopen(request, timeout=_PATIENCE)
    except HTTPError as error:
        with error:
            if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
            whole = (error.headers.get("Content-Range") or "").rpartition("/")[2]  # nothing lies beyond what is here
            return int(whole) if whole.isdigit() else None
    with response:
        if response.status != HTTPStatus.PARTIAL_CONTENT:  # the server sends everything again
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with (
            partial.open("ab" if start else "wb") as file,
            tqdm(None, partial.stem, total, leave=False, initial=start, unit="B", unit_scale=True, delay=1) as progress,
        ):
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                progress.update(len(chunk))
    return total
