"""What validation would score with a bias added to the object's logit, so with another threshold than one half.

    python experiments/threshold.py CHECKPOINT SETTING=VALUE ...

The settings are those of mshnet-train that choose the data and the validation episodes.
"""

import sys
from pathlib import Path

import torch
from opened import opened, predicting

from mshnet_pl.evaluation.metrics import EpisodeIoU, scores
from mshnet_pl.inference.labels import predict_labels
from mshnet_pl.report.formats import aligned

BIASES = (-1.0, -0.6, -0.3, 0.0, 0.3, 0.6, 1.0, 1.5)


def main(checkpoint: Path, overrides: list[str]) -> None:
    """Predict every validation episode once."""
    _, typed, data, method = opened(checkpoint, *overrides)
    data.setup()
    metrics = {bias: EpisodeIoU() for bias in BIASES}
    with predicting(typed):
        for episode in data.val_dataloader():
            logits = method(*episode[:3]).logits.float()
            for bias, metric in metrics.items():
                labels = predict_labels(logits + logits.new_tensor([0, bias])[:, None, None], episode)
                metric.update(labels, episode.query_mask, episode.class_id, episode.number)
    lines = [["bias", "threshold", "mIoU", "FB-IoU"], ["---:"] * 4]
    for bias, metric in metrics.items():
        found = scores(metric.counts())
        lines.append([f"{bias:+.1f}", f"{torch.tensor(-bias).sigmoid():.2f}", f"{found.miou:.1f}", f"{found.fb_iou:.1f}"])
    print(aligned(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
