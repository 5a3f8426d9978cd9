"""Where on the earth a GeoTIFF lies: its tags, which a mask takes over as they are."""

from pathlib import Path

from PIL import ExifTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from mshnet_pl.data.io.images import decoding

_SCALE, _TIEPOINTS, _TRANSFORM, _KEYS, _DOUBLES, _TEXTS = 33550, 33922, 34264, 34735, 34736, 34737
"""OGC GeoTIFF 1.1, section 7: from pixels to coordinates, and which coordinates these are."""
_EXTENSIONS = (".tif", ".tiff")
Tags = ImageFileDirectory_v2


def georeference(path: Path, page: int | None = None) -> Tags | None:
    """A GeoTIFF's tags of transform and coordinate reference system; None for other files, and for those that are turned.

    Args:
        path: of the image; only its header is read.
        page: of the file, if it has several.
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
            for tag in (_SCALE, _TIEPOINTS, _TRANSFORM, _KEYS, _DOUBLES, _TEXTS):
                if tag in tags:
                    kept.tagtype[tag], kept[tag] = tags.tagtype[tag], tags[tag]
            return kept
    except ValueError:  # what cannot be read, which reading it says
        return None
