"""Data whose job dies, as one does that runs out of memory, until a file named ``mended`` lies in the working folder."""

import os
import signal
from pathlib import Path

from mshnet_pl.data.synthetic import Synthetic


class Dies(Synthetic):
    def check(self) -> None:
        if not Path("mended").exists():
            os.kill(os.getpid(), signal.SIGKILL)
