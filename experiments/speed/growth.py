"""How time and memory of MSHNet's forward pass grow with the number of shots and with the picture's size.

python experiments/speed/growth.py OUT_FOLDER    (growth.json and growth.png)
"""

import ctypes
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from mshnet_pl.config import register
from mshnet_pl.config.bench_schema import register as register_bench
from mshnet_pl.models.mshnet.model import MSHNet
from mshnet_pl.utils.memory import keep_freed_memory

SHOTS, SIZES = (1, 2, 5, 10, 20, 50), (161, 225, 321, 385, 449, 513, 577)
SIZE, REPEATS = 321, 8
OBJECT = 1600
"""Pixels of a support's object, as many in every picture: cosine's work is their number times the query's pixels."""


def episode(shots: int, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise, with an object of 40 x 40 pixels in every support."""
    mask = torch.zeros(1, shots, size, size)
    side = int(OBJECT**0.5)
    mask[..., 40 : 40 + side, 40 : 40 + side] = 1
    return torch.randn(1, 3, size, size), torch.randn(1, shots, 3, size, size), mask


def peak_growth(work: Callable[[], object]) -> float:
    """MiB that the process's peak lies above its memory before."""
    ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back, so that it is counted again
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = status("VmRSS")
    work()
    return (status("VmHWM") - before) / 1024


def status(name: str) -> int:
    """KiB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1])


def measure(net: MSHNet, shots: int, size: int) -> dict[str, float]:
    """Milliseconds, the fewest of eight, of the parts and of the whole, and the memory that comparing takes."""
    query, support, mask = episode(shots, size)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        of_query, of_support = net.features(query, support)
        code = net.encode(of_support, mask)
        maps = net.compare(of_query, code)
        parts: dict[str, Callable[[], object]] = {
            "backbone": lambda: net.features(query, support),
            "similarities": lambda: net.compare(of_query, net.encode(of_support, mask)),
            "head": lambda: net.segment(maps, of_query[0].shape[3:]),
            "whole": lambda: net(query, support, mask),
        }
        row = {"shots": shots, "size": size, "compare_mib": peak_growth(lambda: net.compare(of_query, code))}
        seconds: dict[str, list[float]] = {name: [] for name in parts}
        for _ in range(REPEATS):
            for name, part in parts.items():
                started = time.perf_counter()
                part()
                seconds[name].append(time.perf_counter() - started)
    return row | {name: 1000 * min(taken) for name, taken in seconds.items()}


def plot(rows: list[dict[str, float]], path: Path) -> None:
    """Two panels of milliseconds with straight lines through them, one of memory."""
    figure, (by_shots, by_size, memory) = plt.subplots(1, 3, figsize=(14, 4), constrained_layout=True)
    of_shots = [row for row in rows if row["size"] == SIZE]
    of_sizes = [row for row in rows if row["shots"] == 1]
    for axes, points, x, unit in (
        (by_shots, of_shots, [row["shots"] for row in of_shots], "shot"),
        (by_size, of_sizes, [row["size"] ** 2 / 1e6 for row in of_sizes], "megapixel"),
    ):
        for name in ("whole", "backbone", "head", "similarities"):
            y = [row[name] for row in points]
            slope, constant = np.polyfit(x, y, 1)
            (dots,) = axes.plot(x, y, "o", label=f"{name}: {constant:.0f} + {slope:.0f} ms per {unit}")
            ends = np.array([min(x), max(x)])
            axes.plot(ends, constant + slope * ends, color=dots.get_color())
        axes.set_ylabel("ms an episode")
        axes.set_ylim(bottom=0)
        axes.legend()
    by_shots.set(xlabel="shots K", title=f"{SIZE} x {SIZE} pixels")
    by_size.set(xlabel="megapixels of a picture", title="1 shot")
    memory.plot([row["shots"] for row in of_shots], [row["compare_mib"] for row in of_shots], "o-")
    memory.set(xlabel="shots K", ylabel="MiB", title="what comparing takes beside its inputs", ylim=(0, None))
    figure.savefig(path, dpi=90)


def main(out: Path) -> None:
    """Measure, print, draw."""
    register()
    register_bench()
    keep_freed_memory()
    with initialize_config_dir(str(Path(__file__).parents[2] / "conf"), version_base=None):
        net = instantiate(compose("bench").model, _convert_="all").eval()
    rows = []
    for shots, size in [(shots, SIZE) for shots in SHOTS] + [(1, size) for size in SIZES if size != SIZE]:
        rows.append(measure(net, shots, size))
        print({name: round(value, 1) for name, value in rows[-1].items()}, flush=True)
    rows.sort(key=lambda row: (row["size"], row["shots"]))
    out.mkdir(parents=True, exist_ok=True)
    (out / "growth.json").write_text(json.dumps(rows, indent=1) + "\n")
    plot(rows, out / "growth.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
