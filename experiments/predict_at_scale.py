"""Predictions in parts: the same bytes for every kind and number of workers and after SIGKILLs, and what memory they take.

    python experiments/predict_at_scale.py CKPT FOLDER --images 2000 --shard-size 100 --workers local:1 local:2

One line of Markdown a run: seconds, images a second, the SHA-256 of all parts together, and of the largest process the
resident memory in the first and in the last tenth of the time in which parts were written.
"""

import argparse
import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean

from PIL import Image

from mshnet_pl.data.sources.synthetic import Synthetic

CALL = "import sys; sys.argv[0] = 'mshnet-predict'; from mshnet_pl.cli.predict import main; main()"


def draw(folder: Path, images: int) -> None:
    """Synthetic pictures of 64 pixels, and one of them with its mask as support."""
    source = Synthetic(size=64)
    for place in ("photos", "support/images", "support/masks"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for number in range(images):
        source.image(f"val-00-{number:04d}").save(folder / "photos" / f"{number:06d}.png")
    source.image("val-00-0000").save(folder / "support" / "images" / "a.png")
    Image.fromarray(source.mask("val-00-0000", [0]) * 255).save(folder / "support" / "masks" / "a.png")


def start(folder: Path, ckpt: Path, out: str, workers: str, shard_size: int) -> "subprocess.Popen[bytes]":
    """The command, in a session of its own."""
    settings = [f"ckpt={ckpt}", "support=support", "query=photos", f"out={out}", "format=parquet", f"workers={workers}"]
    return subprocess.Popen(
        [sys.executable, "-c", CALL, *settings, f"shard_size={shard_size}", "device=cpu"],
        cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=(folder / f"{out}.log").open("ab"),
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def largest(session: int) -> int:
    """Resident memory of the largest process of a session, in MiB."""
    sizes = [0]
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if int((path / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                sizes.append(int((path / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20)
        except OSError:
            continue
    return max(sizes)


def done(out: Path) -> list[Path]:
    """The parts that are there."""
    return sorted(out.glob("part-*.parquet"))


def digest(out: Path) -> str:
    """SHA-256 of all parts."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in done(out))).hexdigest()[:16]


def measured(folder: Path, ckpt: Path, workers: str, shard_size: int, images: int) -> str:
    """A run from beginning to end; the time is that from the first part to the last."""
    out = folder / workers.replace(":", "_")
    process = start(folder, ckpt, out.name, workers, shard_size)
    sizes: list[int] = []
    while process.poll() is None:
        if done(out):
            sizes.append(largest(process.pid))
        time.sleep(0.5)
    written = sorted(path.stat().st_mtime for path in done(out))
    seconds = written[-1] - written[0]
    tenth = max(len(sizes) // 10, 1)
    rate = (images - shard_size) / seconds if seconds else 0
    return f"{seconds:.0f} | {rate:.1f} | {mean(sizes[:tenth]):.0f} | {mean(sizes[-tenth:]):.0f} | `{digest(out)}`"


def killed(folder: Path, ckpt: Path, workers: str, shard_size: int, kills: int, longest: float) -> str:
    """A run that gets SIGKILL at random moments of up to so many seconds; then it may end."""
    out, rng, kept = folder / f"{workers.replace(':', '_')}_killed", random.Random(0), []
    for _ in range(kills):
        process = start(folder, ckpt, out.name, workers, shard_size)
        time.sleep(rng.uniform(0, longest))
        process.kill()
        process.wait()
        kept.append(len(done(out)))
    start(folder, ckpt, out.name, workers, shard_size).wait()
    return f"parts there after each kill: {' '.join(map(str, kept))}; at the end {len(done(out))}: `{digest(out)}`"


def main() -> None:
    """Draw, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ckpt", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--shard-size", type=int, default=100)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--longest", type=float, default=20.0, help="seconds until a kill, at most")
    parser.add_argument("--workers", nargs="*", default=["local:1", "local:2", "ray:1", "ray:2"])
    parser.add_argument("--killed", nargs="*", default=["local:2"], help="workers of the runs that are killed")
    given = parser.parse_args()
    draw(given.folder, given.images)
    ckpt = given.ckpt.resolve()
    print(
        "| workers | seconds | images/s | MiB, first tenth | MiB, last tenth | SHA-256 |\n|---|---:|---:|---:|---:|---|",
        flush=True,
    )
    for workers in given.workers:
        print(f"| {workers} | {measured(given.folder, ckpt, workers, given.shard_size, given.images)} |", flush=True)
    for workers in given.killed:
        print(workers, killed(given.folder, ckpt, workers, given.shard_size, given.kills, given.longest), flush=True)


if __name__ == "__main__":
    main()
