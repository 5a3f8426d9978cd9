"""What tests would score with the guided filter, by its radius.

    python experiments/guided.py CHECKPOINT EPISODES fold=F SETTING=VALUE ...

Test episodes of the first seed. Of a checkpoint of another fold than F they show classes that it was trained on, in images
that it was not. The settings are those of mshnet-train that choose the data.
"""

import sys
from pathlib import Path

from opened import opened, predicting

from mshnet_pl.evaluation.metrics import EpisodeIoU, scores
from mshnet_pl.inference.guided_filter import guided_logits
from mshnet_pl.inference.labels import predict_labels
from mshnet_pl.report.formats import aligned

RADII = (0.0, 0.03, 0.06, 0.09, 0.12, 0.18)


def main(checkpoint: Path, episodes: int, overrides: list[str]) -> None:
    """Predict every episode once and filter it with every radius."""
    _, typed, data, method = opened(checkpoint, *overrides)
    data.use_test_episodes(data.draws(episodes, typed.shot, typed.test.seeds[0], typed.test.protocol))
    metrics = {radius: EpisodeIoU() for radius in RADII}
    with predicting(typed):
        for episode in data.test_dataloader():
            logits = method(*episode[:3]).logits
            for radius, metric in metrics.items():
                shown = guided_logits(logits, episode.query, radius) if radius else logits
                metric.update(predict_labels(shown, episode), episode.query_mask, episode.class_id, episode.number)
    found = {radius: scores(metric.counts()) for radius, metric in metrics.items()}
    names = [data.class_names[c] for c in found[0.0].class_iou]
    lines = [["radius", "mIoU", "FB-IoU", *names], ["---:"] * (3 + len(names))]
    for radius, of_radius in found.items():
        numbers = of_radius.miou, of_radius.fb_iou, *of_radius.class_iou.values()
        lines.append([f"{radius:.2f}" if radius else "none", *(f"{number:.1f}" for number in numbers)])
    print(aligned(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
