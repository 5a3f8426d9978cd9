"""What a picture of 12 megapixels costs besides the network: processor time of each step, the best of five.

python experiments/result_cost.py
"""

import time
from collections.abc import Callable
from io import BytesIO
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

from mshnet_pl.data.io.images import read_image
from mshnet_pl.data.io.transforms import to_input
from mshnet_pl.inference.annotation_output import parts
from mshnet_pl.inference.labels import margins, to_labels
from mshnet_pl.inference.presence import presence

WIDTH, HEIGHT, SIDE = 4000, 3000, 473
T = TypeVar("T")


def timed(name: str, step: Callable[[], T]) -> T:
    """Print a row; gives what the step gives."""
    best = float("inf")
    for _ in range(5):
        start = time.process_time()
        result = step()
        best = min(best, time.process_time() - start)
    print(f"| {name} | {1000 * best:.0f} |", flush=True)
    return result


def main() -> None:
    """Smooth noise as picture and as logits, which make a mask of several parts."""
    torch.set_num_threads(1)
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(noise).resize((WIDTH, HEIGHT)).save(file, "JPEG", quality=90)
    generator = torch.Generator().manual_seed(0)
    logits = interpolate(torch.randn(1, 2, 8, 8, generator=generator), (119, 119), mode="bicubic")
    print("| step | ms |\n|---|---:|")
    picture = timed("read the JPEG", lambda: read_image(Image.open(file)))
    timed("resize to the network's input", lambda: to_input(picture, SIDE))
    margin = timed("upsample the margins", lambda: margins(logits, (HEIGHT, WIDTH)))
    labels = timed("labels", lambda: to_labels(margin))
    timed("presence", lambda: presence(margin[0]))
    probabilities = timed("probabilities", lambda: margin.sigmoid().numpy())
    for name, instances in (("an object", False), ("connected parts", True)):
        found = timed(
            f"{name}: box, area, score", lambda instances=instances: parts(labels, ["a"], probabilities, instances)
        )
        timed(f"{name}: run lengths of {len(found)}", lambda found=found: [part.counts(WIDTH, HEIGHT) for part in found])


if __name__ == "__main__":
    main()
