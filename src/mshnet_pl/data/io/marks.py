"""Marks that say less than a mask: boxes, scribbles and points, drawn into one map of what they tell of every pixel."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageChops, ImageDraw

from mshnet_pl.errors import DataError

Place = tuple[int | float, int | float]
"""x and y in pixels."""
BACKGROUND, OBJECT, INSIDE, OPEN = 0, 1, 2, 3
"""Of a pixel: surely not the object's; surely its; in a box, so likely its; not told."""
_KINDS = _BACKGROUND, _OBJECT, _BOXES, _OUTLINES = "background", "object", "boxes", "outlines"
_STROKE = 0.005
"""Radius of a point or stroke as a share of the image's longer side."""


class Marks:
    """The marks of one class in one image.

    Everything outside of boxes and outlines is background, unless scribbles or points are all that finds the object: then it
    is open. What is drawn as the object stays that, whatever box it lies in; what is drawn as background goes before both.

    Args:
        size: width and height of the image in pixels.

    Attributes:
        size: of the image.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self._radius = max(_STROKE * max(size), 1.0)
        self._parts: dict[str, Image.Image] = {}

    @property
    def is_mask(self) -> bool:
        """Whether outlines are all that is marked, so that no mask has to be made."""
        return self._parts.keys() <= {_OUTLINES}

    def box(self, corners: Sequence[int | float]) -> None:
        """Left, upper, right and lower edge: the object lies inside, and touches the edges."""
        left, upper, right, lower = corners
        self.area([(left, upper), (right, upper), (right, lower), (left, lower)])

    def area(self, corners: Sequence[Place]) -> None:
        """A box that may be turned, by its corners."""
        self._draw(_BOXES).polygon([*corners], fill=1, outline=1)

    def boxes(self, pixels: Bool[np.ndarray, "height width"]) -> None:
        """Boxes, as the pixels inside."""
        self._part(_BOXES).paste(1, (0, 0), Image.fromarray(pixels))

    def scribble(self, points: Sequence[Place], positive: bool = True) -> None:
        """A stroke through those points, on the object or else on the background; one point is a dot."""
        draw = self._draw(_OBJECT if positive else _BACKGROUND)
        draw.line([*points], fill=1, width=round(2 * self._radius))
        for x, y in points:
            draw.ellipse((x - self._radius, y - self._radius, x + self._radius, y + self._radius), fill=1)

    def strokes(self, pixels: Bool[np.ndarray, "height width"], positive: bool = True) -> None:
        """A scribble on the object, or else on the background, as the pixels that it covers."""
        self._part(_OBJECT if positive else _BACKGROUND).paste(1, (0, 0), Image.fromarray(pixels))

    def polygon(self, points: Sequence[Place]) -> None:
        """The object's outline."""
        self._draw(_OUTLINES).polygon([*points], fill=1, outline=1)

    def circle(self, centre: Place, radius: int | float) -> None:
        """The object's outline."""
        (x, y) = centre
        self._draw(_OUTLINES).ellipse((x - radius, y - radius, x + radius, y + radius), fill=1, outline=1)

    def mask(self, pixels: Bool[np.ndarray, "h w"], left: int = 0, upper: int = 0) -> None:
        """The object's own pixels, whose upper left corner lies at that place."""
        self._part(_OUTLINES).paste(1, (left, upper), Image.fromarray(pixels))

    def add(self, other: "Marks | Bool[np.ndarray, 'height width']") -> None:
        """Whatever else is marked in the same image, or the object's own pixels in it."""
        if isinstance(other, Marks):
            self._parts |= {kind: ImageChops.lighter(self._part(kind), part) for kind, part in other._parts.items()}
        else:
            self.mask(other)

    def turned(self, turn: Callable[[np.ndarray], np.ndarray]) -> "Marks":
        """The same marks in the image that ``turn`` makes of this one; it takes an array (H, W)."""
        parts = {kind: Image.fromarray(turn(np.asarray(part))) for kind, part in self._parts.items()}
        made = Marks(next((part.size for part in parts.values()), self.size))
        made._parts = parts
        return made

    @property
    def is_empty(self) -> bool:
        """Whether no pixel is marked."""
        return not any(part.getbbox() for part in self._parts.values())

    def shows_object(self) -> bool:
        """Whether any pixel is likely the object's."""
        told = self.told()
        return bool(((told == OBJECT) | (told == INSIDE)).any())

    def told(self) -> UInt8[np.ndarray, "height width"]:
        """What is told of every pixel: ``BACKGROUND``, ``OBJECT``, ``INSIDE`` or ``OPEN``."""
        nothing = Image.new("L", self.size)
        background, strokes, boxes, outlines = (np.asarray(self._parts.get(kind, nothing)) > 0 for kind in _KINDS)
        found = np.full(boxes.shape, BACKGROUND if boxes.any() or not (strokes & ~outlines).any() else OPEN, np.uint8)
        found[boxes] = INSIDE
        found[strokes | outlines] = OBJECT
        found[background] = BACKGROUND
        return found

    def _part(self, kind: str) -> Image.Image:
        return self._parts.setdefault(kind, Image.new("L", self.size))

    def _draw(self, kind: str) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self._part(kind))


def read_marks(size: tuple[int, int], boxes: Any, points: Any, scribbles: Any, name: str) -> Marks:  # noqa: ANN401
    """The marks of one image, each None for none.

    Args:
        size: the image's width and height.
        boxes: left, upper, right and lower edge; one box or several.
        points: x and y, and if wanted 1 for the object and 0 for the background; one point or several.
        scribbles: points (n, 2) of a stroke on the object, several strokes, or its pixels as booleans (H, W).
        name: what a message calls them.

    Raises:
        DataError: of another shape or type, which it names; not finite; or outside of the image.
    """
    marks = Marks(size)
    for left, upper, right, lower in _rows(boxes, (4,), f"{name}: boxes", "left, upper, right and lower edge"):
        if not (left < right and upper < lower):
            raise DataError(f"{name}: boxes: ({left:g}, {upper:g}, {right:g}, {lower:g}) has no area; give {_EDGES}")
        _within([(left, upper), (right, lower)], size, f"{name}: boxes")
        marks.box((left, upper, right, lower))
    for x, y, *sign in _rows(points, (2, 3), f"{name}: points", "x, y and if wanted 1 (object) or 0 (background)"):
        if sign not in ([], [0.0], [1.0]):
            raise DataError(f"{name}: points: ({x:g}, {y:g}) is marked {sign[0]:g}; give 1 for the object, 0 for background")
        _within([(x, y)], size, f"{name}: points", edges=False)
        marks.scribble([(x, y)], positive=sign != [0.0])
    for stroke in _strokes(scribbles, f"{name}: scribbles"):
        if stroke.dtype == bool:
            if stroke.shape != size[::-1]:
                raise DataError(f"{name}: scribbles: pixels of shape {stroke.shape}, but the image has {size[::-1]}")
            marks.strokes(stroke)
        else:
            way = [(float(x), float(y)) for x, y in _rows(stroke, (2,), f"{name}: scribbles", "x and y of every point")]
            _within(way, size, f"{name}: scribbles")
            marks.scribble(way)
    return marks


_EDGES = "left, upper, right and lower edge in pixels"


def _strokes(given: Any, name: str) -> list[np.ndarray]:  # noqa: ANN401 - what a user gave
    if given is None:
        return []
    one = _numbers(given, name) if not isinstance(given, Sequence) or not _is_nested(given) else None
    return [_numbers(stroke, name) for stroke in given] if one is None else [one]


def _is_nested(given: Sequence[Any]) -> bool:
    """Whether these are several strokes: places of places of numbers."""
    return bool(given) and all(np.ndim(point) == 2 for point in given if isinstance(point, Sequence | np.ndarray))


def _rows(given: Any, widths: tuple[int, ...], name: str, meaning: str) -> Iterable[list[float]]:  # noqa: ANN401
    """Rows of so many numbers, of one row or several.

    Raises:
        DataError: it is none; says of which shape or type it is.
    """
    if given is None:
        return []
    array = _numbers(given, name)
    if array.dtype == bool:
        raise DataError(f"{name}: true and false; give {meaning}")
    rows = array[None] if array.ndim == 1 else array
    if rows.ndim != 2 or rows.shape[1] not in widths or not len(rows):
        raise DataError(f"{name}: an array of shape {array.shape}; give one or several of {meaning}")
    if not np.isfinite(rows).all():
        raise DataError(f"{name}: numbers that are not finite; give places in pixels")
    return [[float(value) for value in row] for row in rows]


def _numbers(given: Any, name: str) -> np.ndarray:  # noqa: ANN401
    try:
        array = np.asarray(given)
        if array.dtype.kind == "c":
            raise TypeError("complex numbers")
        return array if array.dtype == bool else array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{name}: {type(given).__name__} {str(given)[:60]} is no array of numbers; give places in pixels"
        ) from error


def _within(points: Iterable[Place], size: tuple[int, int], name: str, edges: bool = True) -> None:
    for x, y in points:
        if not (0 <= x <= size[0] and 0 <= y <= size[1]) or (not edges and (x == size[0] or y == size[1])):
            raise DataError(f"{name}: ({x:g}, {y:g}) lies outside of the image of {size[0]} x {size[1]} pixels")
