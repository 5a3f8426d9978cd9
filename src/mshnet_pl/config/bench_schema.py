"""What ``mshnet-bench`` measures."""

from dataclasses import dataclass, field

from hydra.core.config_store import ConfigStore

from mshnet_pl.config.schema import Config
from mshnet_pl.options import Precision, Work


@dataclass
class BenchSettings:
    """Every combination of the lists is a case."""

    what: list[Work] = field(default_factory=lambda: [Work.forward, Work.train])
    sizes: list[int] = field(default_factory=lambda: [473])
    shots: list[int] = field(default_factory=lambda: [1, 5])
    precision: list[Precision] = field(default_factory=lambda: [Precision.fp32, Precision.bf16])
    compile: list[bool] = field(default_factory=lambda: [False])
    batch: int = 2
    repeats: int = 7
    out: str = "bench.json"
    overwrite: bool = False


@dataclass
class BenchConfig(Config):
    """Everything that ``mshnet-bench`` knows."""

    bench: BenchSettings = field(default_factory=BenchSettings)


def problems(bench: BenchSettings) -> list[str]:
    """Every setting that cannot work."""
    least = [("bench.batch", bench.batch, 1), ("bench.repeats", bench.repeats, 1)]
    least += [("bench.shots", shots, 1) for shots in bench.shots] + [("bench.sizes", size, 32) for size in bench.sizes]
    found = [f"{key}={value}: give a number of at least {lowest}" for key, value, lowest in least if value < lowest]
    for key in ("what", "sizes", "shots", "precision", "compile"):
        if not getattr(bench, key):
            found.append(f"bench.{key}=[]: give at least one")
    return found


def register() -> None:
    """Give Hydra the schema."""
    ConfigStore.instance().store(name="bench_schema", node=BenchConfig)
