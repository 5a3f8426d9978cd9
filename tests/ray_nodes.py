"""A cluster of Ray nodes on this machine."""

import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil


def free_address() -> str:
    """With a port of this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


class Cluster:
    """Ray nodes of this machine, of one processor each; the first is the head.

    Args:
        nodes: how many.
    """

    def __init__(self, nodes: int) -> None:
        self.address = free_address()
        self._port = self.address.rpartition(":")[2]
        self._folder = f"/tmp/ray_{self._port}"
        head = ("--head", f"--port={self._port}", f"--temp-dir={self._folder}", "--include-dashboard=false")
        self._nodes = [self._node(*head)]
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(self._port))) == 0:
                    break
            time.sleep(0.2)
        self._nodes += [self._node(f"--address={self.address}") for _ in range(1, nodes)]

    @staticmethod
    def _node(*arguments: str) -> subprocess.Popen[bytes]:
        ours = ("--block", "--num-cpus=1", "--node-ip-address=127.0.0.1", "--disable-usage-stats")
        command = [Path(sys.executable).parent / "ray", "start", *ours, *arguments]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    def at_work(self, node: int) -> set[str]:
        """What Ray calls the tasks and actors of a node."""
        names = set()
        for process in self._processes(node):
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                names.add(process.name())
        return {name for name in names if name.startswith("ray::")}

    def kill(self, node: int) -> None:
        """As if its machine were switched off."""
        for process in self._processes(node):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _processes(self, node: int) -> list[psutil.Process]:
        return psutil.Process(self._nodes[node].pid).children(recursive=True)

    def end(self) -> None:
        for node in reversed(self._nodes):
            node.terminate()
            node.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
