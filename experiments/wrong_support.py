"""What a checkpoint scores on test episodes whose supports show another class: what it segments whatever it is shown.

    python experiments/wrong_support.py CHECKPOINT EPISODES fold=F SETTING=VALUE ...

The supports, their masks too, are those of the last episode before that is of another class. The settings are those of
mshnet-train that choose the data.
"""

import sys
from pathlib import Path
from statistics import fmean

from opened import opened, predicting

from mshnet_pl.episode import Episode
from mshnet_pl.evaluation.metrics import EpisodeIoU, scores
from mshnet_pl.inference.labels import predict_labels
from mshnet_pl.report.formats import aligned


def main(checkpoint: Path, episodes: int, overrides: list[str]) -> None:
    """Predict every test episode of the first seed twice."""
    _, typed, data, method = opened(checkpoint, *overrides)
    data.use_test_episodes(data.draws(episodes, typed.shot, typed.test.seeds[0], typed.test.protocol), False)
    own, wrong = EpisodeIoU(), EpisodeIoU()
    last: dict[int, Episode] = {}
    with predicting(typed):
        for episode in data.test_dataloader():
            label = int(episode.class_id)
            other = next((last[c] for c in reversed(last) if c != label), None)
            last.pop(label, None)
            last[label] = episode
            if other is None:
                continue
            for metric, shown in ((own, episode), (wrong, other)):
                logits = method(episode.query, shown.support, shown.support_mask).logits
                metric.update(predict_labels(logits, episode), episode.query_mask, episode.class_id, episode.number)
    by_supports = [scores(metric.counts()).class_iou for metric in (own, wrong)]
    lines = [["class", "its own supports", "another class's"], ["---", "---:", "---:"]]
    lines += [[data.class_names[c], *(f"{found[c]:.1f}" for found in by_supports)] for c in sorted(by_supports[0])]
    print(aligned([*lines, ["mean", *(f"{fmean(found.values()):.1f}" for found in by_supports)]]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
