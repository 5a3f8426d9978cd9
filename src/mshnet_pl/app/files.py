"""The files of a running page: one temporary folder, bounded, in which every session has its own."""

import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image

from mshnet_pl.errors import DataError

MAX_FILES = 5000
"""Of all visitors together."""
_MAX_UPLOADS = 16
"""That come in at the same time."""
_MAX_AGE = 300.0
"""Seconds that an upload waits for the event that uses it."""
_SESSIONS = "sessions"
_UPLOAD = re.compile("[0-9a-f]{64}")
"""Gradio's folder of an upload: the SHA-256 of its content."""


class Workspace:
    """The page's folder. Directly in it lie uploads, which any session that knows their content may use.

    Args:
        root: an empty folder.
        max_bytes: how much may lie in it before uploads are refused.
    """

    def __init__(self, root: Path, max_bytes: int) -> None:
        self.root, self._max_bytes = root.resolve(), max_bytes
        self._coming: list[int] = []
        (self.root / _SESSIONS).mkdir()

    def new_folder(self) -> "SessionFolder":
        """A folder for a session, under a name that nobody can guess."""
        return SessionFolder(self.root / _SESSIONS / uuid.uuid4().hex)

    def holds(self, path: str) -> bool:
        """Whether a path, which need not exist, lies in the folder."""
        return ".." not in Path(path).parts and self.root in Path(path).parents

    def given(self, path: str, own: "SessionFolder") -> Path:
        """A file that a visitor names: an upload, or a file of the visitor's own session.

        Raises:
            DataError: it is neither, or gone.
        """
        file = Path(path)
        uploaded = file.parent.parent == self.root and _UPLOAD.fullmatch(file.parent.name)
        if self.holds(path) and (uploaded or own.path in file.parents) and file.is_file():
            return file
        raise DataError(f"{file.name} is gone; choose it again")

    @contextmanager
    def room(self, length: int) -> Iterator[None]:
        """Keep room for an upload of ``length`` bytes while it comes in.

        Raises:
            DataError: there is none.
        """
        sizes = [size for _, size, _ in self._files()]
        if len(self._coming) >= _MAX_UPLOADS or len(sizes) >= MAX_FILES:
            raise DataError("Too many files are being uploaded; try again in some minutes")
        if sum(sizes) + sum(self._coming) + length > self._max_bytes:
            raise DataError("There is no room for more files at present; try again in some minutes")
        self._coming.append(length)
        try:
            yield
        finally:
            self._coming.remove(length)

    def sweep(self) -> None:
        """Delete uploads that no event has used in time; what a session has taken over stays."""
        oldest = time.time() - _MAX_AGE
        for path, _, changed in self._files():
            if changed < oldest and self.root / _SESSIONS not in path.parents:
                path.unlink(missing_ok=True)
                with suppress(OSError):  # other files are in it
                    path.parent.rmdir()

    def _files(self) -> Iterator[tuple[Path, int, float]]:
        """Path, bytes, and time of the last change; the paths of one file share its bytes."""
        for folder, _, names in os.walk(self.root):
            for path in (Path(folder, name) for name in names):
                with suppress(FileNotFoundError):
                    status = path.stat()
                    yield path, status.st_size // status.st_nlink, status.st_mtime


class SessionFolder:
    """A session's files in sets, such as the results. Of a kind the two newest sets stay: a browser may be loading one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sets: dict[str, list[Path]] = {}
        path.mkdir()

    def new_set(self, kind: str) -> Path:
        """An empty folder for a set.

        Raises:
            DataError: the session has ended.
        """
        folder = self.path / f"{kind}-{uuid.uuid4().hex}"
        try:
            folder.mkdir()
        except FileNotFoundError as error:
            raise DataError("This page was left alone for too long: reload it") from error
        sets = self._sets.setdefault(kind, [])
        sets.append(folder)
        while len(sets) > 2:
            shutil.rmtree(sets.pop(0), ignore_errors=True)
        return folder

    def save(self, kind: str, images: Sequence[Image.Image], suffix: str = "webp") -> list[str]:
        """Write images as a set; gives their paths."""
        folder = self.new_set(kind)
        paths = [str(folder / f"{kind}_{number}.{suffix}") for number in range(1, len(images) + 1)]
        for path, image in zip(paths, images, strict=True):
            image.save(path)
        return paths

    def adopt(self, kind: str, paths: Sequence[Path]) -> list[str]:
        """Take uploads over as a set, by further links to them; gives their new paths."""
        folder = self.new_set(kind)
        adopted = []
        for number, path in enumerate(paths, start=1):
            (folder / str(number)).mkdir()
            adopted.append(folder / str(number) / path.name)
            adopted[-1].hardlink_to(path)
        return [str(path) for path in adopted]

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
