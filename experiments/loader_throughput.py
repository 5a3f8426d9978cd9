"""How fast training episodes of PASCAL-5i are read: with and without workers, with and without the cache of images.

Run with ``python experiments/loader_throughput.py --root DIR [--splits DIR/splits]``; prints a Markdown page.
"""

import argparse
import os
import platform
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import PIL
import torch

from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.io.transforms import normalise, resize_mask, to_square
from mshnet_pl.data.loading.augmentation import Augment
from mshnet_pl.data.loading.image_cache import ImageCache
from mshnet_pl.data.sources.pascal5i import Pascal5i
from mshnet_pl.options import Subset

STEP, BATCH = 0.1, 8  # a training step on a GPU takes about this many seconds at this batch size
NEEDED = BATCH / STEP
_AHEAD = 5
EVERYTHING = 4096  # MB, more than the images of a subset take


class Row(NamedTuple):
    """One measurement."""

    shot: int
    workers: int
    cache: str
    episodes: float
    """Episodes a second."""
    processor: float
    """Seconds of processor time an episode, in all processes."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", required=True, help="folder with JPEGImages and SegmentationClassAug")
    parser.add_argument("--splits", help="folder with the published lists; ROOT/splits by default")
    parser.add_argument("--size", type=int, default=473, help="side of the square that images are resized to")
    parser.add_argument("--episodes", type=int, default=160, help="episodes in a measurement")
    parser.add_argument("--note", default="", help="a remark to print with the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    source = Pascal5i(arguments.root, arguments.splits or str(Path(arguments.root) / "splits"))
    source.check()

    print("# Reading training episodes\n")
    print("Command: `python experiments/loader_throughput.py --root DIR`, DIR being a folder of PASCAL-5i.\n")
    print(f"- Date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    print(f"- Machine: {os.cpu_count()} cores, {_processor()}; load average at the start {os.getloadavg()[0]:.1f}")
    print(
        f"- Versions: Python {platform.python_version()}, torch {torch.__version__}, Pillow {PIL.__version__}, "
        f"NumPy {np.__version__}"
    )
    images = {name for name, _ in source.pairs(Subset.TRAIN)}
    print(f"- Images: {len(images)} for training, resized to {arguments.size} x {arguments.size}")
    if arguments.note:
        print(f"- {arguments.note}")
    print("\n## Parts, one core\n")
    _print_parts(source, arguments.size)
    print("\n## One episode, one core\n")
    _print_episodes(source, arguments.size, arguments.episodes)
    print("\n## The training stream, batch 8, wall-clock\n")
    print("| shot | workers | cache | episodes/s | images/s | ms of processor time an episode |\n|---|---|---|---|---|---|")
    rows = []
    for row in _stream_rows(source, arguments.size, arguments.episodes):
        rows.append(row)
        speeds = f"{row.episodes:.1f} | {row.episodes * (row.shot + 1):.1f} | {row.processor * 1000:.1f}"
        print(f"| {row.shot} | {row.workers} | {row.cache} | {speeds} |", flush=True)
    print(f"\nThe first {_AHEAD} batches do not count in episodes/s. The filling stream already meets some images again.")
    print("Processor time is that of all processes; beyond the time above it holds stacking batches, starting workers")
    print("and handing batches over in fresh shared memory.")
    print("\n## Eight workers against a GPU\n")
    print(f"A step of {STEP * 1000:.0f} ms at batch {BATCH} needs {NEEDED:.0f} episodes/s.\n")
    print("| shot | cache | episodes/s of 8 workers | keeps up |\n|---|---|---|---|")
    for row in (row for row in rows if row.workers):
        speed = 8 / row.processor
        print(f"| {row.shot} | {row.cache} | {speed:.0f} | {'yes' if speed >= NEEDED else 'no'} |")
    print("\nComputed as eight free cores over the processor time an episode with two workers, not measured on eight.")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _print_parts(source: Pascal5i, size: int) -> None:
    """Milliseconds of processor time of each part of reading one picture."""
    pairs = source.pairs(Subset.TRAIN)[::5]
    images = {name: source.image(name) for name, _ in pairs}
    squares = {name: to_square(image, size) for name, image in images.items()}
    masks = {pair: source.mask(pair[0], [pair[1]]) for pair in pairs}
    cache = ImageCache(list(squares), size, EVERYTHING)
    for name, square in squares.items():
        cache.get(name, lambda square=square: square)
    augment = Augment(0, flip=True, crop_scale=0.5, jitter=0.2)
    small = {pair: resize_mask(mask, size) for pair, mask in masks.items()}
    parts = {
        "decode the image": lambda name, _: source.image(name),
        "resize it": lambda name, _: to_square(images[name], size),
        "both, from the cache": lambda name, _: cache.get(name, lambda: squares[name]),
        "augment (flip, crop 0.5, jitter 0.2), off by default": lambda name, c: augment(squares[name], small[name, c], 0, 0),
        "normalise": lambda name, _: normalise(squares[name]),
        "read the mask": lambda name, c: source.mask(name, [c]),
        "resize it ": lambda name, c: resize_mask(masks[name, c], size),
    }
    print("| part | ms a picture |\n|---|---|")
    for label, part in parts.items():
        times = []
        for _ in range(3):
            started = time.process_time()
            for pair in pairs:
                part(*pair)
            times.append((time.process_time() - started) / len(pairs))
        print(f"| {label} | {median(times) * 1000:.2f} |")


def _print_episodes(source: Pascal5i, size: int, count: int) -> None:
    """Processor time of one episode in this process."""
    print("| shot | cache | ms of processor time | episodes/s a core |\n|---|---|---|---|")
    for shot in (1, 5):
        for cache, megabytes in (("off", 0), ("warm", EVERYTHING)):
            dataset = _module(source, size, shot, 0, megabytes).train_dataloader().dataset
            for _ in range(2):  # the first time fills the cache
                started = time.process_time()
                for number in range(count):
                    dataset[number]
                seconds = (time.process_time() - started) / count
            print(f"| {shot} | {cache} | {seconds * 1000:.1f} | {1 / seconds:.1f} |")


def _stream_rows(source: Pascal5i, size: int, count: int) -> Iterator[Row]:
    for shot in (1, 5):
        for workers in (0, 2):
            off = _module(source, size, shot, workers, 0)
            yield Row(shot, workers, "off", *_speed(off, workers, count))
            cached = _module(source, size, shot, workers, EVERYTHING)
            yield Row(shot, workers, "filling", *_speed(cached, workers, count))
            yield Row(shot, workers, "warm", *_speed(cached, workers, count))


def _module(source: Pascal5i, size: int, shot: int, workers: int, megabytes: int) -> EpisodeDataModule:
    module = EpisodeDataModule(
        source, shot=shot, image_size=size, batch_size=BATCH, num_workers=workers, cache_mb=megabytes, min_images=shot + 1
    )
    module.setup()
    return module


def _speed(module: EpisodeDataModule, workers: int, count: int) -> tuple[float, float]:
    """Episodes a second, after the batches that workers prepare while they start; and processor time an episode."""
    before = sum(os.times()[:4])
    batches = iter(module.train_dataloader())
    for _ in range(_AHEAD):
        next(batches)
    started = time.perf_counter()
    taken = sum(1 for _ in islice(batches, count // BATCH))
    seconds = time.perf_counter() - started
    del batches  # ends the workers: only then does their time count
    made = (_AHEAD + taken + 2 * workers) * BATCH  # each worker is two batches ahead
    return taken * BATCH / seconds, (sum(os.times()[:4]) - before) / made


if __name__ == "__main__":
    main()
