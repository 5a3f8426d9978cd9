"""What ``mshnet-bench`` measures."""

from dataclasses import dataclass, field

from hydra.core.config_store import ConfigStore

from mshnet_pl.config.schema import Config
from mshnet_pl.config.settings import Effect, setting
from mshnet_pl.options import Precision, Work


@dataclass
class BenchSettings:
    """What is measured: every combination of the lists is a case."""

    what: list[Work] = setting(
        [Work.forward, Work.train],
        "Images to logits (forward), a training step (train), or a whole test with data=..., images read and all (test).",
    )
    sizes: list[int] = setting([473], "Sides of the images in pixels.", min=32)
    shots: list[int] = setting([1, 5], "Numbers of supports.", min=1)
    precision: list[Precision] = setting([Precision.fp32, Precision.bf16], "As trainer.precision.")
    compile: list[bool] = setting([False], "Whether torch.compile compiles backbone and head.")
    batch: int = setting(2, "Episodes in a batch.", min=1)
    repeats: int = setting(7, "Measurements of a case.", min=1)
    out: str = setting("bench.json", "File of the measurements.", effect=Effect.NO)
    overwrite: bool = setting(False, "Replace the file if there is one.", effect=Effect.NO)


@dataclass
class BenchConfig(Config):
    """Everything that ``mshnet-bench`` knows."""

    bench: BenchSettings = field(default_factory=BenchSettings)


def register() -> None:
    """Give Hydra the schema."""
    ConfigStore.instance().store(name="bench_schema", node=BenchConfig)
