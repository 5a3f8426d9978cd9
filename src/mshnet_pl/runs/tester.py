"""The tests of a run: scores, counts of every episode, and pictures of the most telling ones."""

import time
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl

from mshnet_pl import results
from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.loading.loaders import EpisodeLoader
from mshnet_pl.data.protocol.sampling import episodes_hash, episodes_json
from mshnet_pl.errors import RunFailed
from mshnet_pl.evaluation import pictures
from mshnet_pl.evaluation.metrics import EpisodeCounts, Scores, scores
from mshnet_pl.options import Resolution, SupportKind
from mshnet_pl.report import controls
from mshnet_pl.report.controls import ControlRow
from mshnet_pl.results import Measurement
from mshnet_pl.runs.job import Run
from mshnet_pl.training.callbacks.progress import ProgressBar
from mshnet_pl.training.feature_keeper import FeatureKeeper
from mshnet_pl.training.module import EpisodicModule, Predicted
from mshnet_pl.utils.files import write_whole


class Tester:
    """Tests one module on every shot and seed of a run.

    Args:
        run: whose settings count, and whose folder takes counts and pictures.
        trainer: runs the tests.
        datamodule: gives the episodes.
        keeper: of the features that tests share.
    """

    def __init__(self, run: Run, trainer: pl.Trainer, datamodule: EpisodeDataModule, keeper: FeatureKeeper) -> None:
        self._config, self._folder = run.config, run.folder
        self._trainer, self._datamodule, self._keeper = trainer, datamodule, keeper

    def __call__(self, module: EpisodicModule, weights: str, checkpoint: Path | None = None) -> list[Measurement]:
        """Test the module as it is, or with the weights of a checkpoint.

        Args:
            module: what is tested.
            weights: what the measurements call its weights.
            checkpoint: of training; None to take the module's own weights.
        """
        test = self._config.test
        return [
            self._measure(module, weights, checkpoint, shot, seed)
            for shot in test.shots or [self._config.shot]
            for seed in test.seeds
        ]

    def _measure(self, module: EpisodicModule, weights: str, checkpoint: Path | None, shot: int, seed: int) -> Measurement:
        test, resolution, shown = self._config.test, self._config.eval.resolution, self._config.eval
        draws = self._datamodule.draws(test.episodes, shot, seed, test.protocol)
        self._datamodule.use_test_episodes(
            draws,
            original_size=resolution is Resolution.original,
            show_queries=shown.guided > 0,
            show_supports=bool(shown.zooms) or test.support is not SupportKind.mask,
            support=test.support,
            seed=seed,
        )
        started = time.perf_counter()
        self._keeper.before_test()
        bar = self._trainer.progress_bar_callback
        if isinstance(bar, ProgressBar):
            bar.tested = f"{weights}, {shot}-shot"
        self._trainer.test(module, datamodule=self._datamodule, ckpt_path=checkpoint, verbose=False, weights_only=True)
        seconds = time.perf_counter() - started
        counts = module.test_counts
        tested = len(counts[:, 0].unique())
        if tested != len(draws):  # whatever cut it short: no result may claim more
            raise RunFailed(f"{tested} of {len(draws)} episodes were tested; there is no result")
        name = f"{weights}_{shot}shot_seed{seed}"
        digest = drawn = None
        if self._trainer.is_global_zero:
            digest = results.save_counts(self._folder / f"episodes_{name}.csv", counts.tolist())
            results.save_episode_images(self._folder, episodes_json(draws))
        if test.pictures and seed == test.seeds[0]:
            drawn = self._draw(module, counts, self._folder / f"pictures_{name}.npz")
        asked = self._control(module, shot, seed, self._folder / f"controls_{name}.csv") if test.controls else None
        classes = self._datamodule.class_names
        return Measurement(
            weights=weights,
            shot=shot,
            seed=seed,
            protocol=test.protocol.value,
            resolution=resolution.value,
            episodes=len(draws),
            episodes_sha256=episodes_hash(draws),
            seconds=round(seconds, 3),
            counts_sha256=digest,
            pictures_sha256=drawn,
            query_images=len({draw.query for episode in draws for draw in episode}),
            support_images=len({name for episode in draws for draw in episode for name in draw.supports}),
            controls=asked,
            **_named(scores(counts), classes),
        )

    def _draw(self, module: EpisodicModule, counts: EpisodeCounts, path: Path) -> str | None:
        """Keep pictures of the best, median and worst episodes; the process that writes them knows the file's SHA-256."""
        chosen = pictures.select_episodes(counts, self._config.test.pictures)
        loader = self._datamodule.test_episodes(list(dict.fromkeys(number for number, _ in chosen)))
        predicted = self._predict(module, loader)
        if not self._trainer.is_global_zero:
            return None
        return pictures.save(path, chosen, loader, [batch.labels for batch in predicted])

    def _control(self, module: EpisodicModule, shot: int, seed: int, path: Path) -> dict[str, float]:
        """Test control episodes and keep what they counted."""
        rows = []
        for kind, (draws, loader) in self._datamodule.control_episodes(self._config.test.controls, shot, seed).items():
            for (draw,), batch in zip(draws, self._predict(module, loader) if draws else (), strict=True):
                ((_, class_id, *pixels),), (there,) = batch.counts.tolist(), batch.presences
                rows.append(ControlRow(kind, draw.query, class_id, tuple(pixels), there))
        if self._trainer.is_global_zero:
            write_whole(path, controls.text(rows).encode())
        return controls.measures(rows)

    def _predict(self, module: EpisodicModule, loader: EpisodeLoader) -> list[Predicted]:
        bar = self._trainer.progress_bar_callback
        if bar:
            bar.disable()
        predicted = self._trainer.predict(module, loader)
        if bar:
            bar.enable()
        return cast("list[Predicted]", predicted)


def _named(pooled: Scores, classes: tuple[str, ...]) -> dict[str, Any]:
    """The scores as plain values, classes by name."""
    return {
        key: {classes[c]: v for c, v in value.items()} if isinstance(value, dict) else value
        for key, value in pooled._asdict().items()
    }
