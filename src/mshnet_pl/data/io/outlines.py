"""What the readers of annotation tools' JSON share: outlines, where their images are, and which points may be."""

import math
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np
from jaxtyping import Bool
from PIL import Image

from mshnet_pl.data.io.folders import plain
from mshnet_pl.data.io.images import EXTENSIONS, Frame
from mshnet_pl.data.io.marks import OBJECT, Marks

UNREADABLE = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, OSError, SyntaxError)
"""What code meets in JSON that is not of the expected form."""
_MAX_OUTLINE = 2_000_000
"""Pixels along an outline: drawing one takes memory and time in proportion."""
_MAX_MASKS = 2**31
"""Pixels of all masks of a file together, a byte each."""
ANNOTATION_FOLDERS = ("annotations", "labels", "json")
"""Where exports have their JSON, beside their images."""
_DEPTH = 3
"""So many folders below an export's own are looked through for its images."""
Known = dict[Path, dict[str, list[Path]]]
"""The images in a folder and those below it, by the plain name."""


def said(error: Exception) -> str:
    """What an error of ``UNREADABLE`` says; of a missing key, its name."""
    if isinstance(error, TypeError | AttributeError | IndexError):
        return f"not of the form that it should have ({error})"
    return f"no {error.args[0]}" if isinstance(error, KeyError) and error.args else str(error)


class Outlined(NamedTuple):
    """A class, an image, and where the image shows the class."""

    label: str
    image: Path | Image.Image
    """A file, or what an annotation file holds itself."""
    mask: Bool[np.ndarray, "height width"] | Marks
    """The mask, or marks that a mask is to be made of."""
    source: Path
    """The image's file, or the annotation file that holds it."""
    written: str
    """The image's name in the annotation file."""


class Outlines(NamedTuple):
    """What an annotation file outlines, and what in it cannot be used, each with its place."""

    found: list[Outlined]
    problems: list[str]


def united(outlined: Sequence[Outlined]) -> Outlined:
    """What is outlined of one class in one image together: marks, if anything of it is."""
    first, *others = outlined
    if not others:
        return first
    marks = Marks(first.mask.size if isinstance(first.mask, Marks) else first.mask.shape[::-1])
    for one in outlined:
        marks.add(one.mask)
    return first._replace(mask=marks.told() == OBJECT if marks.is_mask else marks)


def is_as_stored(said: Sequence[Any], frame: Frame, name: str) -> bool:
    """Whether an image is outlined as its file stores it, not as EXIF turns it, by the width and height that are said of it.

    Args:
        said: numbers, or such as text; None or 0 where nothing is said.
        frame: the image's.
        name: what messages call it.

    Raises:
        ValueError: it has another size.
    """
    numbers = [_number(one) for one in said]
    sizes = frame.turned, frame.stored
    fits = [all(number in (None, own) for number, own in zip(numbers, size, strict=True)) for size in sizes]
    if not any(fits):
        raise ValueError(f"outlined at {said[0]} x {said[1]} pixels, but {name} has {frame.turned[0]} x {frame.turned[1]}")
    return not fits[0]


def _number(said: Any) -> Any:  # noqa: ANN401 - parsed JSON
    with suppress(TypeError, ValueError, OverflowError):
        said = float(said)
    return said or None


def checked(points: Iterable[Any], width: int, height: int) -> list[tuple[float, float]]:
    """Points as numbers that an outline in an image of that size may have.

    Raises:
        ValueError: one is not finite, or lies farther from the image than the image is large; or a line that is so long
            that it was not drawn by anyone.
    """
    found = []
    for number, (x, y) in enumerate(points):
        x, y = float(x), float(y)
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError(f"point {number} is ({x}, {y}); give finite numbers")
        if not (-width <= x <= 2 * width and -height <= y <= 2 * height):
            raise ValueError(f"point {number}, ({x:g}, {y:g}), lies far outside of the image of {width} x {height} pixels")
        found.append((x, y))
    length = sum(max(abs(a - c), abs(b - d)) for (a, b), (c, d) in pairwise(found))
    if length > _MAX_OUTLINE:
        raise ValueError(f"an outline of {length:.0f} pixels, but at most {_MAX_OUTLINE} are drawn")
    return found


def check_memory(masks: int, pixels: int) -> None:
    """Refuse masks that together need too much memory.

    Raises:
        ValueError: says so.
    """
    if pixels > _MAX_MASKS:
        raise ValueError(f"{masks} masks of {pixels // 10**6} megapixels together; give fewer, or smaller images")


def is_of_another(one: Outlined, others: Iterable[Outlined]) -> bool:
    """Whether an outline's picture is not there, and was taken for that of others because of its name without folders.

    That of the longest name that the picture's path ends with is right; of several that are none, nobody knows.
    """
    written = _parts(one.written)
    places = (tuple(map(plain, Path(path(one.source)).parts)) for path in (os.path.abspath, os.path.realpath))
    several = len({_parts(other.written) for other in others}) > 1
    return several and all(place[-len(written) :] != written for place in places)


def _parts(name: str) -> tuple[str, ...]:
    """Of a path as it is written on whatever system, without its drive and what leads up from a folder."""
    path = PureWindowsPath(name)
    return tuple(plain(unquote(part)) for part in path.parts if part not in ("..", path.anchor))


class ImageFinder:
    """Finds the images of an annotation file that an export put beside it, under it or in a neighbouring folder.

    Args:
        annotations: the file. Of ``annotations/instances_SUBSET.json`` the export is the folder above, and images lie in
            ``images/SUBSET``, ``SUBSET``, ``images`` or wherever the name is found once.
        known: the images of folders that were looked through for other files; takes those of this one.
    """

    def __init__(self, annotations: Path, known: Known | None = None) -> None:
        folder = annotations.parent
        self._subset = annotations.stem.partition("_")[2]
        inside = folder.name.lower() in ANNOTATION_FOLDERS
        self._root = folder.parent if inside else folder
        self._near = [folder, folder / "images", self._root, self._root / "images"]
        self._known = {} if known is None else known

    def find(self, name: str) -> Path:
        """The file of an image that is written as on whatever system.

        Raises:
            ValueError: there is none, or several.
        """
        relative = Path(PureWindowsPath(name).as_posix())
        subset = [self._root / "images" / self._subset, self._root / self._subset] if self._subset else []
        for written in (relative, Path(unquote(str(relative)))):
            for folder in (*self._near, *subset):
                if os.path.isfile(folder / written):
                    return folder / written
        if self._root not in self._known:
            self._known[self._root] = _by_name(self._root)
        parts = [plain(unquote(part)) for part in relative.parts]
        found = self._known[self._root].get(parts[-1], []) if parts else []
        closer = [path for path in found if [*map(plain, path.parts[-len(parts) :])] == parts]
        found = closer or found
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"several images are called {relative}: {found[0]}, {found[1]}; give each folder its own file")
        raise ValueError(f"no image {relative} in {self._root} or the folders in it")


def _by_name(root: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for folder, folders, names in os.walk(root):
        if len(Path(folder).relative_to(root).parts) >= _DEPTH:
            folders.clear()
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for name in sorted(names):
            if name[0] != "." and Path(name).suffix.lower() in EXTENSIONS:
                found.setdefault(plain(name), []).append(Path(folder, name))
    return found
