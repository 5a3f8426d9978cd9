"""Settings: their schema, what must hold for them, how they are composed and what identifies them."""

from mshnet_pl.config.bench_schema import BenchConfig
from mshnet_pl.config.composition import compose, plain, register, take_data, typed
from mshnet_pl.config.identity import config_hash, other_training, run_digest
from mshnet_pl.config.schema import Config, EnergyConfig

__all__ = [
    "BenchConfig", "Config", "EnergyConfig", "compose", "config_hash", "other_training", "plain", "register", "run_digest",
    "take_data", "typed",
]  # fmt: skip
