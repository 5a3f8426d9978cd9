"""Draw the test episodes of recorded results again and keep their images' names in ``experiments/episodes``.

Run with ``python experiments/pascal5i_mini/episodes.py ROOT``; ``ROOT`` holds the data. A set of episodes is written once
its SHA-256 is that of the record.
"""

import sys
from pathlib import Path

from mshnet_pl.data.datamodule import EpisodeDataModule
from mshnet_pl.data.protocol.sampling import episodes_hash, episodes_json
from mshnet_pl.data.sources.pascal5i import Pascal5i
from mshnet_pl.options import Protocol
from mshnet_pl.report.collection import collect
from mshnet_pl.results import save_episode_images

EXPERIMENTS = Path(__file__).parents[1]


def main(root: str) -> None:
    """Draw every recorded set once."""
    datamodules = {f: EpisodeDataModule(Pascal5i(root, f"{root}/splits"), fold=f) for f in range(4)}
    recorded = {m.test.episodes_sha256: m for m in collect([EXPERIMENTS]).tests}
    for expected, measured in recorded.items():
        test = measured.test
        drawn = datamodules[int(measured.result.config["fold"])].draws(
            test.episodes, test.shot, test.seed, Protocol(test.protocol)
        )
        if episodes_hash(drawn) != expected:
            raise SystemExit(f"{measured.folder}: the episodes drawn are {episodes_hash(drawn)}, not {expected}")
        save_episode_images(EXPERIMENTS, episodes_json(drawn))
    print(f"{len(recorded)} sets of episodes")


if __name__ == "__main__":
    main(sys.argv[1])
