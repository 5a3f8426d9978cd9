"""``mshnet-test ckpt=...``: test a network with its own configuration and the command line's changes."""

from omegaconf import DictConfig

from mshnet_pl.cli import hydra_jobs
from mshnet_pl.cli.entry import entry
from mshnet_pl.options import DEFAULT_NETWORK
from mshnet_pl.runs import jobs


@entry
def main() -> None:
    """``mshnet-test``."""
    hydra_jobs.run_on_checkpoint(_test, "test", DEFAULT_NETWORK)


def _test(raw: DictConfig) -> float:
    return jobs.start("test", raw)
