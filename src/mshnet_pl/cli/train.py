"""``mshnet-train``: train a configuration and test it; ``-m`` for a sweep, ``replay`` for a step that was not finite."""

import sys

from omegaconf import DictConfig

from mshnet_pl.cli import hydra_jobs
from mshnet_pl.cli.entry import entry
from mshnet_pl.runs import jobs


@entry
def main() -> None:
    """``mshnet-train``, or ``mshnet-train replay ckpt=...``, which repeats a training step that was not finite."""
    if sys.argv[1:2] == ["replay"]:
        del sys.argv[1]
        return hydra_jobs.run_on_checkpoint(_replay, "replay")
    hydra_jobs.run(_train, "config")


def _train(raw: DictConfig) -> float:
    return jobs.start("train", raw)


def _replay(raw: DictConfig) -> None:
    from mshnet_pl.runs import replay
    from mshnet_pl.runs.job import Run

    print(replay.repeat(Run.of(raw)))
