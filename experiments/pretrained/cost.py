"""Time and memory of the default network on a photo of one megapixel: ``python experiments/pretrained/cost.py``.

Processor time of one thread, the least of several calls, which others on the machine hardly change; what is in the pictures
changes neither. The largest resident memory is the process's, interpreter and libraries with it.
"""

import resource
import time
from collections.abc import Callable

import numpy as np
import torch

from mshnet_pl import Segmenter
from mshnet_pl.report.formats import aligned

SIDE, CALLS = 1000, 7


def seconds(call: Callable[[], object]) -> str:
    """Of one call, the least."""
    found = []
    for _ in range(CALLS):
        started = time.thread_time()
        call()
        found.append(time.thread_time() - started)
    return f"{min(found):.2f} s"


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    photos = [*rng.integers(0, 256, (6, SIDE, SIDE, 3), np.uint8)]
    mask = np.zeros((SIDE, SIDE), bool)
    mask[300:700, 300:700] = True
    started = time.thread_time()
    segmenter = Segmenter.from_pretrained(device="cpu")
    print(f"loaded in {time.thread_time() - started:.2f} s")
    rows = [["supports", "fit", "predict", "largest resident memory"], ["---:"] * 4]
    for shots in (1, 5):
        fitted = seconds(lambda: segmenter.fit(photos[:shots], [mask] * shots))  # noqa: B023 - called at once
        predicted = seconds(lambda: segmenter.predict(photos[5]))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append([str(shots), fitted, predicted, f"{peak:.0f} MiB"])
    print(aligned(rows))


if __name__ == "__main__":
    main()
