"""Run-length encodings of masks, as COCO's annotations have them."""

from typing import Any

from pycocotools import mask as rle_tools


def encode(segmentation: Any, height: int, width: int) -> dict[str, Any]:  # noqa: ANN401 - parsed JSON
    """Compressed run-length encoding of polygons, of plain run lengths, or of what is one already.

    Args:
        segmentation: as in COCO's JSON: a list of polygons ``[x, y, x, y, ...]``, or a dict of ``size`` and ``counts``.
        height: of the image.
        width: of the image.

    Raises:
        ValueError: it is none of these, or does not fit the image.
    """
    if isinstance(segmentation, list):
        if not segmentation or any(not isinstance(p, list) or len(p) < 6 or len(p) % 2 for p in segmentation):
            raise ValueError("a polygon is a list of at least three points x, y, x, y, ...")
        return rle_tools.merge(rle_tools.frPyObjects(segmentation, height, width))
    size, counts = segmentation["size"], segmentation["counts"]
    if list(size) != [height, width]:
        raise ValueError(f"encoded at height and width {size}, but the image has {[height, width]}")
    if isinstance(counts, list):
        if sum(counts) != height * width or min(counts) < 0:
            raise ValueError(f"run lengths that add up to {sum(counts)} pixels, but the image has {height * width}")
        return rle_tools.frPyObjects(segmentation, height, width)
    if not counts or not all("0" <= letter <= "o" for letter in counts):
        raise ValueError("counts that are no compressed run-length encoding")
    encoding = {"size": size, "counts": counts.encode()}
    rle_tools.decode(encoding)  # raises where the runs do not fit
    return encoding
