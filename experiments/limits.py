"""Where a checkpoint's score is lost: object that it misses, other objects and background that it calls object.

    python experiments/limits.py CHECKPOINT EPISODES fold=F SETTING=VALUE ...

Prints by class the IoU, the three losses in percent of the union, and the IoU that there would be if no object of another
class were called object, over test episodes of the first seed. The settings are those of mshnet-train that choose the data.
"""

import sys
from collections import defaultdict
from pathlib import Path

import hydra
import numpy as np
from opened import opened, predicting

from mshnet_pl.data.io.transforms import resize_mask
from mshnet_pl.inference.labels import predict_labels
from mshnet_pl.report.formats import aligned


def main(checkpoint: Path, episodes: int, overrides: list[str]) -> None:
    """Predict the episodes and count whose pixels are wrong."""
    raw, typed, data, method = opened(checkpoint, *overrides)
    draws = data.draws(episodes, typed.shot, typed.test.seeds[0], typed.test.protocol)
    data.use_test_episodes(draws)
    source = hydra.utils.instantiate(raw.data.source)
    found: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(6))
    with predicting(typed):
        for episode, (drawn,) in zip(data.test_dataloader(), draws, strict=True):
            others = [c for c in range(len(data.class_names)) if c != drawn.class_id]
            mask, other = episode.query_mask[0], resize_mask(source.mask(drawn.query, others), data.image_size) == 1
            called = predict_labels(method(*episode[:3]).logits, episode)[0] == 1
            true, background = mask == 1, (mask == 0) & ~other
            other &= mask == 0
            parts = (called & true, ~called & true, called & other, called & background, other, background)
            found[drawn.class_id] += [int(part.sum()) for part in parts]
    lines = [["class", "IoU", "missed", "other objects", "background", "IoU without other objects"], ["---"] + ["---:"] * 5]
    rows = []
    for label, (hit, missed, wrong_object, wrong_background, *_) in sorted(found.items()):
        union = hit + missed + wrong_object + wrong_background
        rows.append([100 * x / union for x in (hit, missed, wrong_object, wrong_background)])
        rows[-1].append(100 * hit / (union - wrong_object))
        lines.append([data.class_names[label], *(f"{x:.1f}" for x in rows[-1])])
    print(aligned([*lines, ["mean", *(f"{x:.1f}" for x in np.mean(rows, axis=0))]]))
    _, _, wrong_object, wrong_background, other, background = np.sum([*found.values()], axis=0)
    print(f"\ncalled object: {wrong_object / other:.0%} of what other labelled objects cover, ", end="")
    print(f"{wrong_background / background:.0%} of the background; ", end="")
    print(f"{other / (other + background):.0%} of what is not the object is another labelled object")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
