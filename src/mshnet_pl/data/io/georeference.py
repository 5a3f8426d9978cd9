"""Where on the earth a GeoTIFF lies: its tags, which a mask takes over as they are."""

from pathlib import Path

import numpy as np
from PIL import ExifTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from PIL.TiffTags import ASCII, DOUBLE, SHORT

from mshnet_pl.data.io.images import decoding

_SCALE, _TIEPOINTS, _TRANSFORM, _KEYS, _DOUBLES, _TEXTS = 33550, 33922, 34264, 34735, 34736, 34737
_TYPES = {_SCALE: DOUBLE, _TIEPOINTS: DOUBLE, _TRANSFORM: DOUBLE, _KEYS: SHORT, _DOUBLES: DOUBLE, _TEXTS: ASCII}
"""OGC GeoTIFF 1.1, section 7: from pixels to coordinates, and which coordinates these are. Of other types libtiff writes
something else, or ends the process."""
_EXTENSIONS = (".tif", ".tiff")
Tags = ImageFileDirectory_v2


def georeference(path: Path, page: int | None = None) -> Tags | None:
    """A GeoTIFF's tags of transform and coordinate reference system.

    Args:
        path: of the image; only its header is read.
        page: of the file, if it has several.

    Returns:
        None for other files, for those that are turned, and for tags that are not as the standard has them.
    """
    if path.suffix.lower() not in _EXTENSIONS:
        return None
    try:
        with decoding(path, page) as stored:
            tags: Tags = getattr(stored, "tag_v2", Tags())
            turned = tags.get(ExifTags.Base.Orientation, 1) != 1
            if turned or _KEYS not in tags or not {_TIEPOINTS, _TRANSFORM} & {*tags}:
                return None
            kept = Tags()
            for tag in _TYPES:
                if tag in tags:
                    kept.tagtype[tag], kept[tag] = tags.tagtype[tag], tags[tag]
            return kept if all(_is_standard(kept, tag) for tag in kept) else None
    except ValueError:  # what cannot be read, which reading it says
        return None


def _is_standard(tags: Tags, tag: int) -> bool:
    kind = tags.tagtype[tag]
    return kind == _TYPES[tag] and bool(np.size(tags[tag])) and (kind != DOUBLE or bool(np.isfinite(tags[tag]).all()))
