"""The paper's published numbers."""

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def published_numbers() -> dict[str, Any]:
    """The tables of the paper and of the methods that it compares with, by name."""
    content: dict[str, Any] = json.loads((files("mshnet_pl.reference") / "published.json").read_text())
    return content
