"""Many pictures in parts: the same bytes for every number and kind of workers and after SIGKILLs, in what memory and time.

    python experiments/predict_at_scale.py CKPT FOLDER local:1,50000,0 local:2,50000,20 ray:2,5000,0

A run is its workers, how many of the pictures it takes, and how often it is killed. A line of Markdown a run: SHA-256 of its
parts and whether they are those of the first run; images a second from the first part to the last; processor time an image,
all processes together; of the largest process the resident memory while the first and the last tenth of the parts are made.
"""

import hashlib
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean

from PIL import Image

from mshnet_pl.data.sources.synthetic import Synthetic

CALL = "import sys; sys.argv[0] = 'mshnet-predict'; from mshnet_pl.cli.predict import main; main()"
SETTINGS = ("support=support", "format=parquet", "batch_size=32", "device=cpu")
SHARD, SIDE = 250, 64
PATIENCE = 120.0
"""A run that makes no further part is killed after so many seconds."""
MARK = "PREDICT_AT_SCALE"
"""Environment variable by which all processes of a run are found."""


def draw(folder: Path, images: int) -> None:
    """Synthetic pictures, and one of them with its mask as support."""
    source = Synthetic(size=SIDE)
    for place in ("photos", "support/images", "support/masks"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for number in range(images):
        if not (path := folder / "photos" / f"{number:06d}.png").exists():
            source.image(f"val-00-{number:04d}").save(path)
    source.image("val-00-0000").save(folder / "support" / "images" / "a.png")
    Image.fromarray(source.mask("val-00-0000", [0]) * 255).save(folder / "support" / "masks" / "a.png")


def start(out: Path, ckpt: Path, workers: str, images: int) -> "subprocess.Popen[bytes]":
    """The command, for the first so many pictures."""
    wanted = out.parent / f"first_{images}.txt"
    wanted.write_text("".join(f"photos/{number:06d}.png\n" for number in range(images)))
    settings = (f"ckpt={ckpt}", f"query={wanted.name}", f"out={out.name}", f"workers={workers}", f"shard_size={SHARD}")
    return subprocess.Popen(
        [sys.executable, "-c", CALL, *SETTINGS, *settings],
        cwd=out.parent, stdout=subprocess.DEVNULL, stderr=out.with_suffix(".log").open("ab"),
        env={**os.environ, "OMP_NUM_THREADS": "1", MARK: out.name},
    )  # fmt: skip


def measured(name: str) -> tuple[float, dict[str, float]]:
    """MiB of a run's largest process, and the processor seconds of each process that is there."""
    mark, largest, seconds = f"{MARK}={name}".encode(), 0.0, {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (place / "environ").read_bytes().split(b"\0"):
                fields = (place / "stat").read_text().rpartition(")")[2].split()
                seconds[f"{place.name} {fields[19]}"] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
                resident = int((place / "statm").read_text().split()[1]) * resource.getpagesize() / 2**20
                largest = max(largest, resident)
        except OSError:  # it has ended
            continue
    return largest, seconds


def parts(out: Path) -> list[Path]:
    """Those that are there, in order."""
    return sorted(out.glob("part-*.parquet"))


def digest(paths: list[Path]) -> str:
    """SHA-256 of all together."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def interrupted(out: Path, ckpt: Path, workers: str, images: int, kills: int) -> list[int]:
    """Start and kill the command so many times, all over its work; gives how many parts were there after each.

    A run is killed up to two seconds after a random number of further parts, from none to a tenth of all for 20 kills.
    """
    rng, kept = random.Random(0), []
    for _ in range(kills):
        goal = len(parts(out)) + rng.randint(0, max(1, 2 * (-(-images // SHARD)) // max(2 * kills, 1)))
        process, began = start(out, ckpt, workers, images), time.monotonic()
        while len(parts(out)) < goal and process.poll() is None and time.monotonic() - began < PATIENCE:
            time.sleep(0.02)
        time.sleep(rng.uniform(0, 2))
        process.kill()
        process.wait()
        kept.append(len(parts(out)))
    return kept


def run(out: Path, ckpt: Path, workers: str, images: int, kills: int, reference: Path) -> str:
    """A run to its end, as a row."""
    kept = interrupted(out, ckpt, workers, images, kills)
    began, all_parts = time.time(), -(-images // SHARD)
    process = start(out, ckpt, workers, images)
    memory: list[tuple[int, float]] = []
    seconds: dict[str, float] = {}
    while process.poll() is None:
        largest, now = measured(out.name)
        memory.append((len(parts(out)), largest))
        seconds |= now
        time.sleep(0.25)
    assert process.returncode == 0, out.with_suffix(".log").read_text()[-2000:]
    written = sorted(path.stat().st_mtime for path in parts(out) if path.stat().st_mtime > began)
    rate = SHARD * (len(written) - 1) / (written[-1] - written[0]) if len(written) > 1 else float("nan")
    cost = 1000 * sum(seconds.values()) / (SHARD * max(len(written), 1))
    first = [size for done, size in memory if 0 < done <= all_parts / 10]
    last = [size for done, size in memory if done >= all_parts * 0.9]
    sizes = f"{mean(first):.0f} | {mean(last):.0f}" if first and last else " | "
    same = "yes" if digest(parts(out)) == digest(parts(reference)[: len(parts(out))]) else "NO"
    print(f"{out.name}: parts after each kill {kept}", file=sys.stderr, flush=True)
    return f"| {workers} | {images} | {kills} | `{digest(parts(out))}` | {same} | {rate:.0f} | {cost:.2f} | {sizes} |"


def main(ckpt: Path, folder: Path, *runs: str) -> None:
    """Draw, run, print."""
    wanted = [(workers, int(images), int(kills)) for workers, images, kills in (one.split(",") for one in runs)]
    draw(folder, max(images for _, images, _ in wanted))
    print(
        "| workers | images | kills | SHA-256 | as the first | images/s | ms of a core an image | MiB, first tenth | last |"
    )
    print("|---|---:|---:|---|---|---:|---:|---:|---:|", flush=True)
    places = [folder / one.replace(":", "_").replace(",", "_") for one in runs]
    for out, (workers, images, kills) in zip(places, wanted, strict=True):
        print(run(out, ckpt.resolve(), workers, images, kills, places[0]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
