"""``mshnet-bench``: time and memory of a configuration's network as a table, and as JSON in ``bench.out``."""

from omegaconf import DictConfig

from mshnet_pl.cli import hydra_jobs
from mshnet_pl.cli.entry import entry
from mshnet_pl.config import bench_schema


@entry
def main() -> None:
    """``mshnet-bench``."""
    bench_schema.register()
    hydra_jobs.run(_bench, "bench")


def _bench(raw: DictConfig) -> None:
    from mshnet_pl.bench import cases

    rows, out = cases.run(raw)
    print(f"{cases.table(rows)}\n\n{out}")
