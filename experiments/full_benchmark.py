"""Hours and memory of the paper's tables on 1, 4 and 8 GPUs, from files that ``mshnet-bench`` wrote.

Measure on one card what a job there will do, then print the page's table:

    mshnet-bench bench.batch=8 bench.precision=[bf16] bench.out=r50.json
    mshnet-bench bench.batch=8 bench.precision=[bf16] backbone=resnet101 bench.out=r101.json
    python experiments/full_benchmark.py r50.json r101.json

``--sustained X`` takes the operations alone from the files, and X TFLOP/s in place of their times.
"""

import argparse
import heapq
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from mshnet_pl.config import compose
from mshnet_pl.data.sources.base import AbstractSource
from mshnet_pl.data.sources.coco20i import Coco20i
from mshnet_pl.report.formats import aligned

CONF = Path(__file__).resolve().parents[1] / "conf"
TABLES = {"Table 2": "pascal5i", "Table 3": "coco20i", "Table 4": "ablation_similarity"}
EPISODES = {"pascal5i": 15 * AbstractSource.draws_per_class, "coco20i": Coco20i.epoch_length}
GPUS = (1, 4, 8)

Job = Mapping[str, str]
Costs = Mapping[tuple[str, str, str], Mapping[str, Any]]
"""A case of a benchmark by backbone, shots and work."""


def main() -> None:
    """Read the files, print a line a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bench", type=Path, nargs="+", help="files of mshnet-bench, of one backbone each")
    parser.add_argument("--sustained", type=float, help="TFLOP/s; the files' own times if left out")
    chosen = parser.parse_args()
    costs = {key: case for path in chosen.bench for key, case in cases(path)}
    lines = [["", "jobs", "GPU hours", *(f"hours on {n}" for n in GPUS), "most MiB a GPU"]]
    lines.append(["---", *["---:"] * (len(lines[0]) - 1)])
    for name, experiment in TABLES.items():
        settings, found = jobs(experiment)
        hours = [job_hours(settings, job, costs, chosen.sustained) for job in found]
        most = max(costs[job["backbone"], job["shot"], "train"]["peak_mib"] for job in found)
        spent = [f"{makespan(hours, n):.1f}" for n in GPUS]
        lines.append([f"{name}: `experiment={experiment}`", str(len(found)), f"{sum(hours):.1f}", *spent, f"{most:,.0f}"])
    print(aligned(lines))


def cases(path: Path) -> Iterator[tuple[tuple[str, str, str], Mapping[str, Any]]]:
    """What a file measured, by backbone, shots and work."""
    content = json.loads(path.read_text())
    backbone = f"resnet{content['config']['backbone']['depth']}"
    for case in content["cases"]:
        yield (backbone, str(case["shots"]), case["what"]), case


def jobs(experiment: str) -> tuple[Any, list[Job]]:
    """The configuration that an experiment's jobs share, and what each has of its own."""
    params = OmegaConf.load(CONF / "experiment" / f"{experiment}.yaml").hydra.sweeper.params
    choices = {"backbone": "resnet50", **{str(k): str(v) for k, v in params.items()}, "fold": "0,1,2,3"}
    split = {name: text.split("],") if "[" in text else text.split(",") for name, text in choices.items()}
    return compose(f"experiment={experiment}", "data.root=ROOT"), [
        dict(zip(split, values, strict=True)) for values in itertools.product(*split.values())
    ]


def job_hours(settings: Any, job: Job, costs: Costs, sustained: float | None) -> float:  # noqa: ANN401 - a configuration
    """Training, validation and test of one job.

    With e episodes an epoch, v validation and t test episodes, and milliseconds an episode::

        (epochs e train + e epochs / (batch every_n_steps) v forward + t forward) / 3.6e6

    Networks of a single similarity are counted as if they had both.
    """
    data = str(settings.data.source._target_).rpartition(".")[2].lower()
    trained = settings.trainer.max_epochs * EPISODES[data]
    validations = trained // (settings.data.batch_size * settings.val.every_n_steps)
    forward, train = (_ms(costs[job["backbone"], job["shot"], what], sustained) for what in ("forward", "train"))
    return (trained * train + (validations * settings.val.episodes + settings.test.episodes) * forward) / 3.6e6


def _ms(case: Mapping[str, Any], sustained: float | None) -> float:
    """Milliseconds an episode; a multiplication and addition are two operations."""
    return float(case["ms"] if sustained is None else 2 * case["gmac"] / sustained)


def makespan(hours: Sequence[float], gpus: int) -> float:
    """Hours until the last job ends where each GPU takes the next one as soon as it is free."""
    free = [0.0] * gpus
    for taken in hours:
        heapq.heapreplace(free, free[0] + taken)
    return max(free)


if __name__ == "__main__":
    main()
