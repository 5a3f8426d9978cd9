"""What a run is: its settings, what identifies them, and where its files go."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from mshnet_pl.config import Config, run_digest, typed


@dataclass(frozen=True)
class Run:
    """One run, made once and handed to whatever works for it, fresh processes among them.

    Attributes:
        raw: the composed configuration, which parts are instantiated from.
        config: the same, checked and typed.
        digest: SHA-256 that identifies the run; of a test, it covers the checkpoint's content.
        folder: the run's own.
    """

    raw: DictConfig
    config: Config
    digest: str
    folder: Path

    @classmethod
    def of(cls, raw: DictConfig, folder: Path = Path()) -> "Run":
        """Check a composed configuration; ``folder`` may be left out where nothing is written.

        Raises:
            ConfigError: lists every problem at once.
        """
        return cls(raw, typed(raw), run_digest(raw, _network_digest), folder)


def _network_digest(name: str) -> str:
    from mshnet_pl.inference import pretrained  # only here: composing and starting sweeps needs no PyTorch

    return pretrained.digest(name)
