"""How bf16 agrees with float32 on the test episodes of a trained network: pixels labelled alike, mIoU and FB-IoU of both.

python experiments/speed/precision.py CHECKPOINT SETTING=VALUE ...    (settings of mshnet-train that choose the data)
"""

import sys
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from mshnet_pl.config import register
from mshnet_pl.evaluation.metrics import EpisodeIoU, scores
from mshnet_pl.inference.labels import predict_labels
from mshnet_pl.models.builder import read_method
from mshnet_pl.runs import build
from mshnet_pl.runs.job import Run


def main(checkpoint: Path, settings: list[str]) -> None:
    """Predict every episode twice."""
    register()
    with initialize_config_dir(str(Path(__file__).parents[2] / "conf"), version_base=None):
        raw = compose("config", overrides=settings)
    run = Run.of(raw)
    config, datamodule = run.config, build.make_datamodule(run)
    datamodule.setup()
    datamodule.use_test_episodes(
        datamodule.draws(config.test.episodes, config.shot, config.test.seeds[0], config.test.protocol)
    )
    method = read_method(checkpoint).method.eval()
    metrics = {dtype: EpisodeIoU() for dtype in (torch.float32, torch.bfloat16)}
    alike, pixels = 0, 0
    for number, episode in enumerate(datamodule.test_dataloader(), 1):
        labels = []
        for dtype, metric in metrics.items():
            with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
                labels.append(predict_labels(method(*episode[:3]).logits, episode))
            metric.update(labels[-1], episode.query_mask, episode.class_id, episode.number)
        alike += int((labels[0] == labels[1]).sum())
        pixels += labels[0].numel()
        if number % 25 == 0:
            found = {str(dtype): scores(metric.counts()) for dtype, metric in metrics.items()}
            told = {name: f"mIoU {value.miou:.3f}, FB-IoU {value.fb_iou:.3f}" for name, value in found.items()}
            print(f"{number * len(episode.query)} episodes: {100 * alike / pixels:.3f}% of pixels alike; {told}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
