"""What one visitor of the page gives and gets; no word about how it looks."""

import zipfile
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from PIL import Image
from scipy.ndimage import distance_transform_edt, find_objects, label

from mshnet_pl.app import example
from mshnet_pl.app.files import SessionFolder
from mshnet_pl.app.levels import Levels
from mshnet_pl.app.pictures import MAX_PIXELS, Strokes, check, heat, outlined, painted, read, thumbnail
from mshnet_pl.data.io.images import read_image
from mshnet_pl.data.io.marks import Marks
from mshnet_pl.data.io.masks import read_mask
from mshnet_pl.errors import DataError
from mshnet_pl.inference.draw import mask_image
from mshnet_pl.inference.segmenter import Segmenter

_MAX_SHOTS = 10
_MAX_QUERIES = 20
Panel = tuple[str, str]
"""Path of an image, and its caption."""


class Meaning(StrEnum):
    """What strokes on the object are."""

    shape = "shape"
    box = "box"
    marks = "marks"


class Shot(NamedTuple):
    """A support image and what is painted on it, nothing yet perhaps."""

    image: Image.Image
    strokes: Strokes
    size: tuple[int, int]
    """Width and height of the file, whose mask file has the same."""
    meaning: Meaning = Meaning.shape
    negative: bool = False
    """Whether it shows what the object is not."""


class Fitted(NamedTuple):
    """A support image with its mask, painted or made of marks."""

    image: Image.Image
    mask: Bool[np.ndarray, "height width"]
    negative: bool
    made: bool


class Found(NamedTuple):
    """A query, small, and where the object is in it, at the query's own size."""

    name: str
    image: Image.Image
    levels: Levels


class Session:
    """One visitor's supports, queries and results; nothing of it is shared.

    What stays between two events is small: pictures of the page's size, a byte or less a pixel of every query, no features.

    Attributes:
        folder: its files.
        draft: the support whose mask is being painted.
        kept: the supports that are done.
        found: the segmented queries.
    """

    def __init__(self, folder: SessionFolder) -> None:
        self.folder = folder
        self.clear()

    def clear(self) -> None:
        """Forget everything; a browser may still show its files, which later ones replace."""
        self.draft: Shot | None = None
        self.kept: list[Shot] = []
        self.found: list[Found] = []
        self._fitted: list[Fitted] = []

    def paint(self, strokes: Strokes) -> None:
        """Take over what is painted on the draft, at the draft's size."""
        if self.draft is not None:
            self.draft = self.draft._replace(strokes=strokes)

    def mean(self, meaning: object, negative: object) -> None:
        """What the draft's strokes mean, and whether it shows what the object is not.

        Raises:
            DataError: no such meaning.
        """
        if meaning not in [*Meaning] or not isinstance(negative, bool):
            raise DataError(f"{str(meaning)[:40]!r}, {str(negative)[:40]!r}: not to be chosen on this page; reload it")
        if self.draft is not None:
            self.draft = self.draft._replace(meaning=Meaning(str(meaning)), negative=negative)

    def paint_layers(self, paths: Sequence[str]) -> None:
        """Take over what is painted on the draft from the editor's layers.

        Raises:
            DataError: they are not the editor's.
        """
        if self.draft is not None:
            self.paint(painted(paths, self.draft.image.size))

    def open(self, path: str) -> None:
        """Make a picture the draft; a draft that is painted is kept.

        Raises:
            DataError: it cannot be read or is too large, or there are too many supports.
        """
        if len(self.kept) + self._painted() >= _MAX_SHOTS:
            raise DataError(f"{_MAX_SHOTS} pictures of the object are enough; remove one first")
        image = read(path, read_image)
        small = thumbnail(image)
        meaning = self.draft.meaning if self.draft is not None else Meaning.shape
        self._keep()
        self.draft = Shot(small, Strokes.none(small.size), image.size, meaning)

    def wipe(self) -> None:
        """Take what is painted off the draft."""
        if self.draft is not None:
            self.paint(Strokes.none(self.draft.image.size))

    def open_mask(self, path: str) -> None:
        """Read the draft's mask from a file.

        Raises:
            DataError: it cannot be read, is no mask, is empty, or has another size than the draft's file.
        """
        if self.draft is None:
            raise DataError("Choose the picture first, then its mask")
        mask = Image.fromarray(read(path, read_mask))
        if mask.size != self.draft.size:
            sizes = [f"{width} x {height}" for width, height in (mask.size, self.draft.size)]
            raise DataError(f"{Path(path).name} has {sizes[0]} pixels, but its picture {sizes[1]}")
        small = np.asarray(mask.resize(self.draft.image.size, Image.Resampling.NEAREST))
        self.draft = self.draft._replace(strokes=Strokes(small, np.zeros_like(small)), meaning=Meaning.shape)

    def example(self, queries: Sequence[object]) -> list[str]:
        """Make the example's image the draft, with its mask.

        Returns:
            The path of the example's photo to search.

        Raises:
            DataError: the visitor gave pictures.
        """
        if self.draft or queries:
            raise DataError("The example would replace your pictures: press Start over first")
        image, mask = example.one_coin()
        self.draft = Shot(image, Strokes(mask, np.zeros_like(mask)), image.size)
        return self.folder.save("example", [example.photo()], "png")

    def take(self, queries: Sequence[str]) -> list[str]:
        """Keep uploads to search as files of the session; gives their new paths.

        Raises:
            DataError: there are too many.
        """
        _check_count(queries)
        return self.folder.adopt("queries", [Path(query) for query in queries])

    def edit(self, index: int) -> None:
        """Make a kept support the draft; a draft that is painted is kept instead. Without such a support nothing happens."""
        if isinstance(index, int) and 0 <= index < len(self.kept):
            chosen = self.kept.pop(index)
            self._keep()
            self.draft = chosen

    def remove(self) -> None:
        """Drop the draft; the last support that was kept takes its place."""
        self.draft = self.kept.pop() if self.kept else None

    def _painted(self) -> bool:
        return self.draft is not None and bool(self.draft.strokes.object.any())

    def _keep(self) -> None:
        if self.draft is not None and self._painted():
            self.kept.append(self.draft)

    def supports(self) -> list[Shot]:
        """What shows the object.

        Raises:
            DataError: nothing does, or a picture is not painted yet.
        """
        if self.draft is None:
            raise DataError("Show the object first: choose a picture of it in step 1")
        if not self._painted():
            raise DataError("The mask is empty: paint over the object in step 1, or remove that picture")
        shots = [*self.kept, self.draft]
        if all(shot.negative for shot in shots):
            raise DataError("All pictures show what it is not: give one that shows the object")
        return shots

    def segment(self, segmenter: Segmenter, queries: Sequence[str]) -> None:
        """Find the object in the queries that can be read.

        Raises:
            DataError: there is no support, an unpainted one, no query, or too much of them; or, when the others are
                segmented, queries that cannot be read.
        """
        shots = self.supports()
        if not queries:
            raise DataError("Give pictures to search in step 2")
        _check_count(queries)
        images, problems, pixels = [], [], 0
        for path in queries:
            try:
                pixels += check(path)
                if pixels <= MAX_PIXELS:
                    images.append((Path(path).stem, read(path, read_image)))
            except DataError as error:
                problems.append(str(error))
            if pixels > MAX_PIXELS:
                raise DataError(f"Too much at once: give pictures of at most {MAX_PIXELS // 10**6} megapixels together")
        self.found = []
        if images:
            fitted = _fitted(segmenter, shots)
            _fit(segmenter, fitted)
            found = segmenter.margins([image for _, image in images])
            self.found = [
                Found(name, thumbnail(image), Levels.of(margins[0]))
                for (name, image), margins in zip(images, found, strict=True)
            ]
            self._fitted = fitted
        if problems:
            raise DataError("\n".join(problems))

    def overlays(self, threshold: object) -> list[Panel]:
        """Every query, and beside it the query with the object outlined; small, with captions."""
        images, captions = [], []
        for name, image, levels in self.found:
            mask = levels.mask(threshold)
            images += [image, outlined(image, mask)]
            captions += [name, f"object: {mask.mean():.1%}" if mask.any() else "not found"]
        return [*zip(self.folder.save("results", images), captions, strict=True)]

    def masks(self, threshold: object) -> str:
        """Path of a ZIP file with every query's mask at its own size, 0 and 255, as ``NUMBER_NAME_mask.png``."""
        path = self.folder.new_set("masks") / "masks.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for number, (name, _, levels) in enumerate(self.found, start=1):
                with archive.open(f"{number}_{name}_mask.png", "w") as file:
                    mask_image(levels.mask(threshold).view(np.uint8), way=1).save(file, "PNG")
        return str(path)

    def drawing(self) -> tuple[str, list[str]] | None:
        """The draft for the editor: paths of its image, and of the layer with its mask if that has any."""
        if self.draft is None:
            return None
        layers = [self.draft.strokes.layer()] if any(map(np.any, self.draft.strokes)) else []
        image, *paths = self.folder.save("draft", [self.draft.image, *layers], "png")
        return image, paths

    def shown(self) -> list[str]:
        """Paths of the supports that are done, outlined."""
        return self.folder.save("kept", [outlined(shot.image, shot.strokes.object) for shot in self.kept])

    def made(self) -> list[str]:
        """Paths of the supports whose masks were made of boxes and marks, with these outlined."""
        return self.folder.save("made", [outlined(shot.image, shot.mask) for shot in self._fitted if shot.made])

    def energy(self, segmenter: Segmenter, index: int) -> list[Panel]:
        """A query's mean similarity to the supports by similarity and block, from dark, a map's smallest, to bright.

        Args:
            segmenter: a fresh one: the supports' features are computed again rather than kept.
            index: of the query; there is nothing to see of one that does not exist.
        """
        if not (isinstance(index, int) and 0 <= index < len(self.found)):
            return []
        maps = _fit(segmenter, self._fitted).energy(self.found[index].image, "object")
        named = [(f"{name} {block}", values) for name, blocks in maps.items() for block, values in blocks.items()]
        paths = self.folder.save("energy", [heat(values) for _, values in named])
        captions = [f"{name}: {values.min():.2f} to {values.max():.2f}" for name, values in named]
        return [*zip(paths, captions, strict=True)]


def _check_count(queries: Sequence[str]) -> None:
    if len(queries) > _MAX_QUERIES:
        raise DataError(f"Too much at once: give at most {_MAX_QUERIES} pictures to search")


def _fitted(segmenter: Segmenter, shots: Sequence[Shot]) -> list[Fitted]:
    """The shots with their masks; those of marks are made together, the object's apart from those of what it is not."""
    masks = {i: shot.strokes.object for i, shot in enumerate(shots) if shot.meaning is Meaning.shape}
    for negative in (False, True):
        marked = [i for i, shot in enumerate(shots) if shot.negative is negative and i not in masks]
        if marked:
            made = segmenter.complete([shots[i].image for i in marked], [_marks(shots[i]) for i in marked])
            masks |= zip(marked, made, strict=True)
    return [
        Fitted(shot.image, masks[i], shot.negative, made=shot.meaning is not Meaning.shape) for i, shot in enumerate(shots)
    ]


def _marks(shot: Shot) -> Marks:
    marked, background = shot.strokes
    marks = Marks(shot.image.size)
    marks.strokes(background, positive=False)
    if shot.meaning is Meaning.marks:
        marks.strokes(marked)
    else:
        numbered, _ = label(marked, np.ones((3, 3)))
        for number, (rows, columns) in enumerate(find_objects(numbered), start=1):
            marks.box(_box(numbered[rows, columns] == number, columns.start, rows.start))
    return marks


def _box(stroke: Bool[np.ndarray, "height width"], left: int, upper: int) -> Sequence[int | float]:
    """The box from corner to corner of a stroke, within the brush's radius of its edges; of an area, the box around it."""
    right, lower = left + stroke.shape[1] - 1, upper + stroke.shape[0] - 1
    radius = float(distance_transform_edt(np.pad(stroke, 1)).max()) - 1
    inner = left + radius, upper + radius, right - radius, lower - radius
    return inner if min(inner[2] - inner[0], inner[3] - inner[1]) > radius else (left, upper, right, lower)


def _fit(segmenter: Segmenter, shots: Sequence[Fitted]) -> Segmenter:
    for negative in {shot.negative for shot in shots}:
        shown = [shot for shot in shots if shot.negative is negative]
        name = "not object" if negative else "object"
        segmenter.fit(name, [shot.image for shot in shown], [shot.mask for shot in shown], negative=negative)
    return segmenter
