"""Pictures that tests of ``mshnet-app`` give it."""

from pathlib import Path

import pytest
from PIL import Image

from mshnet_pl.data.sources.synthetic import Synthetic

SOURCE, SUPPORT, QUERY, CLASS_ID = Synthetic(size=384), "val-03-0000", "val-03-0001", 3


@pytest.fixture
def pictures(tmp_path: Path) -> dict[str, Path]:
    """A support, its mask and a query."""
    paths = {name: tmp_path / f"{name}.png" for name in ("support", "mask", "query")}
    SOURCE.image(SUPPORT).save(paths["support"])
    Image.fromarray(SOURCE.mask(SUPPORT, [CLASS_ID])).save(paths["mask"])
    SOURCE.image(QUERY).save(paths["query"])
    return paths


def flat(path: Path, side: int, mode: str = "L") -> Path:
    """A picture of few bytes and many pixels."""
    Image.new(mode, (side, side)).save(path)
    return path
