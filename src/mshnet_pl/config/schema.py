"""The typed half of the configuration: every setting of the commands, its type and its default.

Nodes with a ``_target_`` (data.source, backbone, similarity, model, optimizer, scheduler, trainer, logger, callbacks) are
leaves: their constructors check their own arguments.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from mshnet_pl.options import BadFiles, Fusion, NonFinite, NovelPixels, Protocol, Resolution, ValClasses, Which


@dataclass
class AugmentConfig:
    """Random changes of training pictures; everything off by default."""

    flip: bool = False
    crop_scale: float = 1.0
    jitter: float = 0.0


@dataclass
class DataConfig:
    """What images there are, and how training draws them."""

    source: Any = None
    root: str | None = MISSING
    splits_dir: str | None = None
    image_size: int = 473
    batch_size: int = 8
    num_workers: int = 0
    novel_pixels: NovelPixels = NovelPixels.drop
    min_images: int = 0
    bad_files: BadFiles = BadFiles.error
    cache_mb: int = 0
    cache_dir: str | None = None
    feature_cache: str | None = None
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass
class LossConfig:
    """Eq. 1."""

    inner_weight: float = 1 / 3
    ignore_unknown: bool = False
    foreground_weight: float = 1.0
    nonfinite: NonFinite = NonFinite.stop


@dataclass
class ValConfig:
    """Choosing the best checkpoint during training; ``episodes: 0`` for no validation."""

    episodes: int = 0
    every_n_steps: int = 500
    classes: ValClasses = ValClasses.novel
    heldout: int = 3


@dataclass
class EvalConfig:
    """How tests predict and score; validation predicts plainly."""

    resolution: Resolution = Resolution.resized
    flip: bool = False
    scales: list[float] = field(default_factory=lambda: [1.0])
    fusion: Fusion = Fusion.network
    guided: float = 0.0
    """Radius of the guided filter's windows as a share of the image's side; 0 for no filter."""


@dataclass
class TestConfig:
    """Which episodes are tested, and with which checkpoint."""

    __test__ = False  # not a pytest class

    episodes: int = 1000
    seeds: list[int] = field(default_factory=lambda: [0])
    shots: list[int] | None = None
    protocol: Protocol = Protocol.seeded
    checkpoint: Which = Which.last
    untrained: bool = False
    pictures: int = 4
    feature_mb: int = 2048


@dataclass
class Config:
    """Everything that ``mshnet-train`` and ``mshnet-test`` know."""

    fold: int = MISSING
    shot: int = 1
    way: int = 1
    seed: int = 0
    variant: str = "full"
    runs: str = "runs"
    threads: int | None = None
    gpus: Any = None
    ckpt: str | None = None
    ckpt_path: str | None = "last"
    save_every_n_steps: int = 100
    data: DataConfig = field(default_factory=DataConfig)
    backbone: Any = None
    similarity: Any = None
    model: Any = None
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: Any = None
    scheduler: Any = None
    trainer: Any = None
    logger: Any = None
    callbacks: Any = None
    val: ValConfig = field(default_factory=ValConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    test: TestConfig = field(default_factory=TestConfig)


@dataclass
class EnergyConfig(Config):
    """Everything that ``mshnet-report energy`` knows."""

    episodes: list[int] = field(default_factory=lambda: [0, 1])
    average: int = 100
    out: str = "energy.png"
    pictures: bool = True
    overwrite: bool = False
