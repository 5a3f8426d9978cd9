"""The commands: they parse, print and set exit codes; nothing else."""

import os
import signal
import sys

if os.path.basename(sys.argv[0]).startswith("mshnet-"):  # while a command imports what it needs, Ctrl-C has nothing to save
    signal.signal(signal.SIGINT, signal.SIG_DFL)
