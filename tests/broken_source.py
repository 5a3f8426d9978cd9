"""Data whose job dies as one that runs out of memory, until a file named ``mended`` lies there, and data that break."""

import os
import signal
import time
from pathlib import Path

from mshnet_pl.data.sources.pascal5i import Pascal5i
from mshnet_pl.data.sources.synthetic import Synthetic
from mshnet_pl.errors import DataError


class Dies(Synthetic):
    def check(self, bad: dict[str, str] | None = None) -> None:
        if not Path("mended").exists():
            os.kill(os.getpid(), signal.SIGKILL)


class Complains(Synthetic):
    """Says that it is ``reached``, waits for a file named ``go`` and fails with more words than a pipe holds."""

    def check(self, bad: dict[str, str] | None = None) -> None:
        Path("reached").touch()
        while not Path("go").exists():
            time.sleep(0.01)
        raise DataError("x" * (1 << 20))


class Breaks(Pascal5i):
    """PASCAL-5i of which a file is cut short right after the start has looked at all of them."""

    def __init__(self, root: str, splits_dir: str | None = None, victim: str = "") -> None:
        super().__init__(root, splits_dir)
        self._victim = Path(root) / victim

    def check(self, bad: dict[str, str] | None = None) -> None:
        super().check(bad)
        content = self._victim.read_bytes()
        self._victim.write_bytes(content[: len(content) // 2])
