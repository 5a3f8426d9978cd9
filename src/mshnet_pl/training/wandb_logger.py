"""Weights & Biases: a logger that never ends a run, result and checkpoint as artifacts, and a sweep's summary."""

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from jaxtyping import UInt8
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from mshnet_pl import results
from mshnet_pl.errors import ConfigError
from mshnet_pl.options import UNKNOWN
from mshnet_pl.results import Result
from mshnet_pl.utils.targets import backbone_name, class_name, method_name, network_name

log = logging.getLogger(__name__)

_MODES = ("offline", "online", "disabled")
_LONGEST_TAG = 64
_LABELS = {0: "background", 1: "object", UNKNOWN: "unknown"}
_SUMMARY = ("group", "fold", "shot", "variant", "weights", "seed", "miou", "fb_iou")


class WandbTracker(WandbLogger):
    """Lightning's logger for wandb, as a record that cannot harm what it records.

    Whatever fails in wandb, a lost connection or a full disk, is said once and the run continues. A run that cannot be
    started online is recorded offline, and one that was cut off online is continued there.

    Args:
        save_dir: the run's own folder; wandb's files go to ``save_dir/wandb``.
        project: of wandb.
        mode: ``offline``, ``online`` or ``disabled``.
        panel: how many episodes ``ValidationPanels`` draws.
        checkpoint: send the tested checkpoint as an artifact, beside the result.
        arguments: of ``wandb.init``, such as ``entity``.

    Raises:
        ConfigError: another mode.
    """

    def __init__(
        self,
        save_dir: Path,
        project: str = "mshnet_pl",
        mode: str = "offline",
        panel: int = 4,
        checkpoint: bool = True,
        **arguments: Any,  # noqa: ANN401 - wandb's
    ) -> None:
        if mode not in _MODES:
            raise ConfigError(f"logger.mode={mode}: give one of {', '.join(_MODES)}")
        resumes = mode == "online" and "WANDB_RUN_ID" not in os.environ  # which an agent of wandb sets
        earlier = sorted(Path(save_dir, "wandb").glob("run-*-*")) if resumes else []
        run_id = earlier[-1].name.rpartition("-")[2] if earlier else None
        super().__init__(save_dir=save_dir, project=project, id=run_id, mode=mode, reinit="create_new", **arguments)
        del self._wandb_init["anonymous"]  # wandb warns of it, even where it is None
        self.panel, self._checkpoint, self._complained = panel, checkpoint, False

    def describe(self, config: Mapping[str, Any]) -> None:
        """Before anything is logged: say what run this is, from its whole configuration and ``method``, which it implies."""
        told = {**config, "method": network_name(config)}
        self._wandb_init |= labels(config) | {"config": told, "name": Path(self.save_dir or "").name}

    @property
    def experiment(self) -> Any:  # noqa: ANN401 - a wandb run or what stands for it
        """The wandb run, started when first needed: where online fails, offline; where that fails, one that does nothing."""
        try:
            return super().experiment
        except Exception as error:  # wandb's errors are of many kinds
            mode = {"online": "offline", "offline": "disabled"}[self._wandb_init["mode"]]
            log.warning(
                "wandb cannot start (%s: %s); this run continues with logger.mode=%s", type(error).__name__, error, mode
            )
            self._wandb_init |= {"mode": mode, "id": None}
            return self.experiment

    @contextmanager
    def shield(self) -> Iterator[None]:
        """What wandb raises inside does not leave; the first time it is said."""
        try:
            yield
        except Exception as error:  # wandb's errors are of many kinds, and none of them may end a run
            if not self._complained:
                log.warning("wandb failed (%s: %s); the run continues without what it lacks", type(error).__name__, error)
            self._complained = True

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Nothing: ``describe`` has given the whole configuration."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers, or whatever else wandb shows."""
        with self.shield():
            super().log_metrics(metrics, step)

    @rank_zero_only
    def log_episodes(
        self,
        key: str,
        step: int,
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        titles: Sequence[str],
        captions: Sequence[str],
        layers: Mapping[str, UInt8[np.ndarray, "_ _ _"]],
    ) -> None:
        """An image an episode with its caption; layers as masks that wandb shows over it."""
        drawn = [
            {name: {"mask_data": masks[i], "class_labels": _LABELS} for name, masks in layers.items()}
            for i in range(len(titles))
        ]
        with self.shield():
            self.log_image(key, [*images], step, caption=[*captions], **({"masks": drawn} if layers else {}))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Lightning calls this after every training and test; only a failure ends the wandb run."""
        if status != "success" and self._experiment is not None:
            self._finish(exit_code=1)

    @rank_zero_only
    def conclude(self, folder: Path, result: Result) -> None:
        """Send scores, result file and the checkpoint that was tested, and end the wandb run."""
        import wandb  # takes a second, which runs without it need not wait

        with self.shield():
            name = re.sub(r"[^\w.-]", "_", folder.name)
            for test in result.tests:
                place = f"result/{test.weights}_{test.shot}shot_seed{test.seed}"
                shown = {"miou": test.miou, "fb_iou": test.fb_iou, **(test.controls or {})}
                self.experiment.summary.update({f"{place}/{score}": value for score, value in shown.items()})
            files = {"result": folder / results.FILE}
            if self._checkpoint:
                files["checkpoint"] = folder / "checkpoints" / f"{result.training.get('checkpoint')}.ckpt"
            for kind, path in files.items():
                if path.is_file():
                    artifact = wandb.Artifact(f"{kind}-{name}", type=kind, metadata={"config_hash": result.config_hash})
                    artifact.add_file(str(path), policy="immutable", skip_cache=True)
                    self.experiment.log_artifact(artifact)
        self._finish(exit_code=0)

    def _finish(self, exit_code: int) -> None:
        import wandb  # see conclude

        with self.shield():
            self.experiment.finish(exit_code=exit_code)
            wandb.teardown()  # only then is everything on the disk, and a job of a sweep may be killed
        self._experiment = None


def labels(config: Mapping[str, Any]) -> dict[str, Any]:
    """How a run is filed.

    Returns:
        ``group``, the experiment: data, model, similarities and backbone; ``job_type``, the cell of its table, such as
        ``fold0-1shot``; ``tags``: fold, shot, seed, variant, and whether it trains.
    """
    model, backbone = config["model"], config["backbone"]
    kinds = [class_name(config["data"]["source"]["_target_"]), method_name(model["_target_"])]
    kinds += ["+".join(model.get("similarities") or ()), backbone_name(backbone)]
    fold, shot = f"fold{config['fold']}", f"{config['shot']}shot"
    tags = [fold, shot, f"seed{config['seed']}", config.get("variant"), "test" if config.get("ckpt") else "train"]
    return {
        "group": " ".join(filter(None, kinds)),
        "job_type": f"{fold}-{shot}",
        "tags": [tag[:_LONGEST_TAG] for tag in tags if tag],
    }


def track_sweep(runs: Sequence[Result]) -> None:
    """Send the table of a sweep's results to wandb as a run of its own, if its jobs were tracked there.

    A row is a test of a job: fold, shot, variant, weights, seed, mIoU and FB-IoU in percent. Never raises.
    """
    import wandb  # takes a second, which runs without it need not wait

    tracked = [run for run in runs if class_name((run.config.get("logger") or {}).get("_target_")) == WandbTracker.__name__]
    if not tracked:
        return
    settings = {key: value for key, value in tracked[0].config["logger"].items() if not key.startswith("_")}
    tracker = WandbTracker(save_dir=Path(tracked[0].config["runs"]), **settings)
    groups = [labels(run.config)["group"] for run in tracked]
    tracker._wandb_init |= {"group": groups[0], "job_type": "sweep", "name": f"sweep, results: {len(tracked)}"}
    table = wandb.Table(columns=[*_SUMMARY], allow_mixed_types=True)  # a fold is a number or "all"
    for group, run in zip(groups, tracked, strict=True):
        for test in run.tests:
            row = {"group": group, "fold": run.config["fold"], "variant": run.config.get("variant"), **vars(test)}
            table.add_data(*(row[column] for column in _SUMMARY))
    with tracker.shield():
        tracker.experiment.log({"sweep": table, "sweep/miou": fmean(row[-2] for row in table.data)})
    tracker._finish(exit_code=0)
