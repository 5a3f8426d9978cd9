"""Paths of the material that tests read where it is present."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("MSHNET_SHARED", ROOT.parent / "shared"))
