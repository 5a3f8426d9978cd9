"""The recorded runs of ``experiments/``, unpacked into a folder of this process's own."""

import atexit
import shutil
import tempfile
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from conftest import ROOT


@cache
def experiments() -> Path:
    """A copy of ``experiments/`` with its records, beside ``conf`` and an empty ``docs``; removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="mshnet_records_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "docs").mkdir()
    (folder / "conf").symlink_to(ROOT / "conf")
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    spec = spec_from_file_location("records", ROOT / "experiments" / "records.py")
    assert spec and spec.loader
    records = module_from_spec(spec)
    spec.loader.exec_module(records)
    records.unpack(folder / "experiments")
    return folder / "experiments"
