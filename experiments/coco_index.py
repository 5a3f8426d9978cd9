"""Times the first and the second start of COCO-20i on annotations as large as those of 2014, and its memory per worker.

Generates ``instances_{train,val}2014.json`` with as many images and annotations as the originals, 1.5% of them crowds, and
an empty file for every image, in a temporary folder; then measures in fresh processes and prints a table.

    python experiments/coco_index.py [--scale 1.0]
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np

from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.sources.coco20i import Coco20i
from mshnet_pl.options import Subset

SIZES = {"train": (82_783, 604_907), "val": (40_504, 291_875)}
"""Images and annotations of COCO 2014."""
POINTS = 22
"""Mean number of points of an instance's polygons."""
WIDTH, HEIGHT = 640, 480


def generate(root: Path, subset: str, images: int, annotations: int) -> None:
    """Write one JSON, a line an annotation, and the images' empty files."""
    rng = np.random.default_rng(images)
    ids = np.sort(rng.permutation(600_000)[:images]) + 1
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / f"{subset}2014").mkdir()
    names = [f"COCO_{subset}2014_{i:012d}.jpg" for i in ids]
    for name in names:
        (root / f"{subset}2014" / name).touch()
    with (root / "annotations" / f"instances_{subset}2014.json").open("w") as file:
        pictures = [
            {"id": int(i), "file_name": n, "width": WIDTH, "height": HEIGHT} for i, n in zip(ids, names, strict=True)
        ]
        categories = [{"id": c + 1 + c // 10, "name": Coco20i.classes[c]} for c in range(80)]
        file.write(f'{{"images": {json.dumps(pictures)}, "categories": {json.dumps(categories)}, "annotations": [')
        for number in range(annotations):
            file.write(",\n" if number else "\n")
            file.write(json.dumps(_annotation(number, int(ids[rng.integers(images)]), rng)))
        file.write("\n]}")


def _annotation(number: int, image_id: int, rng: np.random.Generator) -> dict[str, object]:
    c = min(int(rng.geometric(0.05)) - 1, 79)
    crowd = int(rng.random() < 0.015)
    if crowd:
        runs = rng.integers(1, 900, 200).tolist()
        segmentation: object = {"size": [HEIGHT, WIDTH], "counts": [*runs, WIDTH * HEIGHT - sum(runs)]}
    else:
        points = max(int(rng.poisson(POINTS)), 3)
        angle = np.sort(rng.uniform(0, 2 * np.pi, points))
        radius = rng.lognormal(3.6, 0.9) * rng.uniform(0.7, 1, points)
        centre = rng.uniform(0, 1, 2) * (WIDTH, HEIGHT)
        outline = np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None] + centre
        segmentation = [np.clip(outline, 0, (WIDTH, HEIGHT)).round(2).ravel().tolist()]
    return {
        "id": number + 1,
        "image_id": image_id,
        "category_id": c + 1 + c // 10,
        "iscrowd": crowd,
        "area": 0.0,
        "bbox": [0, 0, 0, 0],
        "segmentation": segmentation,
    }


def start(root: str) -> None:
    """What a process does before its first episode; prints seconds, and the peak of memory above the libraries in MiB."""
    libraries = _memory(os.getpid(), "status", "VmHWM")
    began, busy = time.perf_counter(), time.process_time()
    source = Coco20i(root)
    EpisodeDataModule(source).setup()
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    peak = _memory(os.getpid(), "status", "VmHWM") - libraries
    began = time.perf_counter()
    pairs = source.pairs(Subset.TRAIN)
    chosen = pairs[:: max(len(pairs) // 1000, 1)]
    for name, class_id in chosen:
        source.mask(name, [class_id])
    milliseconds = (time.perf_counter() - began) / len(chosen) * 1e3
    print(json.dumps({"seconds": seconds, "busy": busy, "peak": peak, "pairs": len(pairs), "mask_ms": milliseconds}))


def _memory(pid: int, file: str, field: str) -> float:
    lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def _work(source: Coco20i, done: "multiprocessing.Queue[tuple[float, float]]", together: Barrier) -> None:
    pairs = source.pairs(Subset.TRAIN)
    for at in np.random.default_rng(os.getpid()).integers(len(pairs), size=2000).tolist():
        source.mask(pairs[at][0], [pairs[at][1]])
    together.wait()  # a page counts as private once all other processes are gone
    figures = _memory(os.getpid(), "smaps_rollup", "Rss"), _memory(os.getpid(), "smaps_rollup", "Private_Dirty")
    together.wait()
    done.put(figures)


def workers(root: str, count: int) -> list[tuple[float, float]]:
    """Resident memory of forked workers after 2,000 random masks each, and how much no other process shares; in MiB."""
    source = Coco20i(root)
    source.check()
    context = multiprocessing.get_context("fork")
    done: multiprocessing.Queue[tuple[float, float]] = context.Queue()
    together = context.Barrier(count)
    processes = [context.Process(target=_work, args=(source, done, together)) for _ in range(count)]
    for process in processes:
        process.start()
    figures = [done.get() for _ in processes]
    for process in processes:
        process.join()
    return figures


def _figures(start: dict[str, float]) -> str:
    return f"{start['seconds']:.2f} s, of processor time {start['busy']:.2f} s; {start['peak']:.0f} MiB at most"


def main() -> None:
    """Generate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of COCO's size")
    parser.add_argument("--start", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.start:
        start(arguments.start)
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        for subset, (images, annotations) in SIZES.items():
            generate(Path(folder), subset, int(images * arguments.scale), int(annotations * arguments.scale))
        command = [sys.executable, __file__, "--start", folder]
        first, *later = (json.loads(subprocess.check_output(command)) for _ in range(4))
        sizes = {
            what: sum(f.stat().st_size for f in Path(folder).glob(pattern)) / 2**20
            for what, pattern in (("JSON", "annotations/*"), ("index", "cache/mshnet_pl/coco-*/*"))
        }
        memory = workers(folder, 2)
    print("| | |\n| --- | ---: |")
    print(f"| images, annotations | {sum(i for i, _ in SIZES.values()):,}, {sum(a for _, a in SIZES.values()):,} |")
    print(f"| scale of this run | {arguments.scale} |")
    print(f"| JSON on disk | {sizes['JSON']:.0f} MiB |")
    print(f"| index on disk | {sizes['index']:.0f} MiB |")
    print(f"| derived training pairs | {first['pairs']:,} |")
    print(f"| first start: parse and index | {_figures(first)} |")
    for number, figures in enumerate(later, start=2):
        print(f"| start number {number} | {_figures(figures)} |")
    print(f"| one mask | {later[0]['mask_ms']:.2f} ms |")
    for number, (resident, private) in enumerate(memory):
        print(f"| worker {number}: resident, of that its own | {resident:.0f} MiB, {private:.0f} MiB |")


if __name__ == "__main__":
    main()
