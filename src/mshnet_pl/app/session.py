"""What one visitor of the page gives and gets; no word about how it looks."""

import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from mshnet_pl.data.io.images import read_image, read_mask
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.errors import DataError
from mshnet_pl.inference.draw import colours, mask_image, overlay
from mshnet_pl.inference.labels import to_labels
from mshnet_pl.inference.segmenter import Segmenter

BRUSH = colours(1)[0]
"""The colour of objects on the page."""
OPACITY = 160
"""Of strokes, from 0 to 255."""
_SIDE = 1024
"""Longer side of pictures on the page, and of supports, in pixels."""
_MAX_SHOTS = 10
_MAX_PIXELS = 40_000_000
"""Of one picture, and of all queries together: 12 bytes each are kept."""
_EXAMPLE = "val-03-0000", 3, ("val-03-0001", "val-03-0002", "val-03-0005")
"""A synthetic support, its class, and queries."""
_Read = TypeVar("_Read")


class Shot(NamedTuple):
    """A support image and its mask, which may be empty while it is painted."""

    image: Image.Image
    mask: Bool[np.ndarray, "height width"]
    size: tuple[int, int]
    """Width and height of the file, whose mask file has the same."""


class Found(NamedTuple):
    """A query and where the object is in it."""

    name: str
    image: Image.Image
    margins: Float[Tensor, "1 height width"]


class Session:
    """One visitor's supports, queries and results; nothing of it is shared.

    Attributes:
        draft: the support whose mask is being painted.
        kept: the supports that are done.
        found: the segmented queries.
    """

    def __init__(self) -> None:
        self.draft: Shot | None = None
        self.kept: list[Shot] = []
        self.found: list[Found] = []
        self._segmenter: Segmenter | None = None

    def paint(self, mask: Bool[np.ndarray, "height width"] | None) -> None:
        """Take over the draft's mask, at the draft's size."""
        if self.draft is not None and mask is not None:
            self.draft = self.draft._replace(mask=mask)

    def open(self, path: str) -> None:
        """Make a picture the draft; a draft that is painted is kept.

        Raises:
            DataError: it cannot be read or is too large, or there are too many supports.
        """
        if len(self.kept) + self._painted() >= _MAX_SHOTS:
            raise DataError(f"{_MAX_SHOTS} pictures of the object are enough; remove one first")
        image = _read(path, read_image)
        small = _thumbnail(image)
        self._keep()
        self.draft = Shot(small, np.zeros((small.height, small.width), bool), image.size)

    def wipe(self) -> None:
        """Empty the draft's mask."""
        if self.draft is not None:
            self.paint(np.zeros_like(self.draft.mask))

    def open_mask(self, path: str) -> None:
        """Read the draft's mask from a file.

        Raises:
            DataError: it cannot be read, is no mask, is empty, or has another size than the draft's file.
        """
        if self.draft is None:
            raise DataError("Choose the picture first, then its mask")
        mask = Image.fromarray(_read(path, read_mask))
        if mask.size != self.draft.size:
            sizes = [f"{width} x {height}" for width, height in (mask.size, self.draft.size)]
            raise DataError(f"{Path(path).name} has {sizes[0]} pixels, but its picture {sizes[1]}")
        self.paint(np.asarray(mask.resize(self.draft.image.size, Image.Resampling.NEAREST)))

    def example(self, folder: Path, queries: Sequence[str]) -> list[str]:
        """Make a synthetic image the draft, with its mask.

        Args:
            folder: where synthetic images to search are written.
            queries: what the visitor gave already.

        Returns:
            The paths of the synthetic images to search.

        Raises:
            DataError: the visitor gave pictures.
        """
        if self.draft or queries:
            raise DataError("The example would replace your pictures: press Start over first")
        source, (name, class_id, names) = Synthetic(size=384), _EXAMPLE
        image = source.image(name)
        self.draft = Shot(image, source.mask(name, [class_id]) > 0, image.size)
        paths = [folder / f"example_{number}.png" for number in range(1, len(names) + 1)]
        for path, query in zip(paths, names, strict=True):
            source.image(query).save(path)
        return [str(path) for path in paths]

    def edit(self, index: int) -> None:
        """Make a kept support the draft; a draft that is painted is kept instead."""
        chosen = self.kept.pop(index)
        self._keep()
        self.draft = chosen

    def remove(self) -> None:
        """Drop the draft; the last support that was kept takes its place."""
        self.draft = self.kept.pop() if self.kept else None

    def _painted(self) -> bool:
        return self.draft is not None and bool(self.draft.mask.any())

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
        if not self.draft.mask.any():
            raise DataError("The mask is empty: paint over the object in step 1, or remove that picture")
        return [*self.kept, self.draft]

    def segment(self, segmenter: Segmenter, queries: Sequence[str]) -> None:
        """Find the object in the queries that can be read.

        Args:
            segmenter: a fresh one, for this visitor alone.
            queries: paths.

        Raises:
            DataError: there is no support, an unpainted one, no query, or too much of them; or, when the others are
                segmented, queries that cannot be read.
        """
        shots = self.supports()
        if not queries:
            raise DataError("Give pictures to search in step 2")
        images, problems = [], []
        for path in queries:
            try:
                images.append((Path(path).stem, _read(path, read_image)))
            except DataError as error:
                problems.append(str(error))
            if sum(image.width * image.height for _, image in images) > _MAX_PIXELS:
                raise DataError(f"Too much at once: give pictures of at most {_MAX_PIXELS // 10**6} megapixels together")
        if images:
            segmenter.fit([shot.image for shot in shots], [shot.mask for shot in shots])
            found = segmenter.margins([image for _, image in images])
            self.found = [Found(*named, margins.cpu()) for named, margins in zip(images, found, strict=True)]
            self._segmenter = segmenter
        if problems:
            raise DataError("\n".join(problems))

    def overlays(self, threshold: float) -> list[tuple[Image.Image, str]]:
        """Every query, and beside it the query with the object outlined; small, with captions."""
        panels = []
        for name, image, margins in self.found:
            labels = to_labels(margins, threshold)
            shown = f"object: {labels.mean():.1%}" if labels.any() else "not found"
            panels += [(_thumbnail(image), name), (outlined(_thumbnail(image), labels), shown)]
        return panels

    def masks(self, threshold: float) -> bytes:
        """A ZIP file with every query's mask at its own size, 0 and 255, as ``NUMBER_NAME_mask.png``."""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for number, (name, _, margins) in enumerate(self.found, start=1):
                with archive.open(f"{number}_{name}_mask.png", "w") as file:
                    mask_image(to_labels(margins, threshold), way=1).save(file, "PNG")
        return packed.getvalue()

    def energy(self, index: int) -> list[tuple[Image.Image, str]]:
        """A query's mean similarity to the supports by similarity and block: dark is the least in a map, bright the most."""
        if self._segmenter is None or index >= len(self.found):
            return []
        image = _thumbnail(self.found[index].image)
        return [
            (Image.fromarray(_heat(values)), f"{similarity} {block}: {values.min():.2f} to {values.max():.2f}")
            for similarity, maps in self._segmenter.energy(image).items()
            for block, values in maps.items()
        ]


def strokes(mask: Bool[np.ndarray, "height width"]) -> Image.Image:
    """A mask as a layer of the editor, RGBA: the brush's colour, transparent elsewhere."""
    return Image.fromarray(np.where(mask[..., None], [*BRUSH, OPACITY], 0).astype(np.uint8))


def painted(layers: Sequence[Image.Image], size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """Where any of the editor's layers, RGBA, has a stroke; at ``size``, width and height."""
    mask = np.zeros(size[::-1], bool)
    for layer in layers:
        mask |= np.asarray(layer.getchannel("A").resize(size, Image.Resampling.NEAREST)) > 0
    return mask


def check(path: str) -> None:
    """Look at an upload's header.

    Raises:
        DataError: it is no image, or too large; gives the file's name without its folder.
    """
    name = Path(path).name
    try:
        with Image.open(path) as header:
            if header.width * header.height <= _MAX_PIXELS:
                return
    except Image.DecompressionBombError:
        pass
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{name} is no image that can be read; give a PNG, JPEG, WebP or TIFF file") from error
    raise DataError(f"{name} is too large; give an image of at most {_MAX_PIXELS // 10**6} megapixels")


def _read(path: str, reader: Callable[[str], _Read]) -> _Read:
    check(path)
    try:
        return reader(path)
    except DataError as error:
        raise DataError(str(error).replace(path, Path(path).name)) from error


def _thumbnail(image: Image.Image) -> Image.Image:
    small = image.copy()
    small.thumbnail((_SIDE, _SIDE))
    return small


def outlined(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """An image with the object outlined; the mask (H, W), bool or 0 and 1, may have another size."""
    resized = Image.fromarray(mask.astype(np.uint8)).resize(image.size, Image.Resampling.NEAREST)
    return overlay(image, np.asarray(resized))


def _heat(values: Float[np.ndarray, "height width"]) -> np.ndarray:
    spread = max(float(np.ptp(values)), 1e-12)
    return colormaps["inferno"]((values - values.min()) / spread, bytes=True)[..., :3]
