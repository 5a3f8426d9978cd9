"""What a training step costs with the backbone's features from ``data.feature_cache`` and without, in turn.

python experiments/speed/epoch.py STEPS SETTING=VALUE ...    (settings of mshnet-train, data.feature_cache among them)
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from mshnet_pl.config import register
from mshnet_pl.data.loading.cached_backbone import CachedBackbone
from mshnet_pl.runs import build
from mshnet_pl.runs.job import Run
from mshnet_pl.training.feature_keeper import FeatureKeeper
from mshnet_pl.training.losses import episode_loss
from mshnet_pl.utils.memory import keep_freed_memory


def main(steps: int, settings: list[str]) -> None:
    """Print the medians of both and their ratio."""
    register()
    keep_freed_memory()
    with initialize_config_dir(str(Path(__file__).parents[2] / "conf"), version_base=None):
        raw = compose("config", overrides=[*settings, "logger=none", "data.num_workers=0"])
    run = Run.of(raw, Path(tempfile.mkdtemp()))
    module, trainer = build.make_module(run), build.make_trainer(run)
    of_images, of_features = (build.make_datamodule(run) for _ in range(2))
    for datamodule in (of_images, of_features):
        datamodule.setup()
    FeatureKeeper(trainer, module, of_features, run.config.data.feature_cache).before_training()
    streams = {
        "without": (iter(of_images.train_dataloader()), CachedBackbone(module.method.backbone)),
        "with": (iter(of_features.train_dataloader()), module.backbone),
    }
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.01, momentum=0.9)
    module.train()
    seconds: dict[str, list[float]] = {name: [] for name in streams}
    losses: dict[str, list[float]] = {name: [] for name in streams}
    for _ in range(steps + 2):
        before = {name: value.clone() for name, value in module.state_dict().items()}
        for name, (stream, backbone) in streams.items():
            module.load_state_dict(before)  # both take the same step
            started = time.perf_counter()
            batch = next(stream)
            module.backbone = backbone
            torch.manual_seed(0)
            with trainer.precision_plugin.forward_context():
                loss, _ = episode_loss(module(batch), batch.query_mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seconds[name].append(time.perf_counter() - started)
            losses[name].append(float(loss.detach()))
    assert losses["with"] == losses["without"], losses
    medians = {name: statistics.median(taken[2:]) for name, taken in seconds.items()}
    print(f"seconds a step, median of {steps}: {medians}, with / without = {medians['with'] / medians['without']:.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
