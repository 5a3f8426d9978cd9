"""One measurement of one run, and the files that lie beside its result."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from mshnet_pl import results
from mshnet_pl.errors import DataError
from mshnet_pl.report.counts import PixelCounts, episode_counts
from mshnet_pl.report.episode_images import EpisodeImages, find
from mshnet_pl.results import Measurement, Result


class Measured(NamedTuple):
    """One measurement of one run."""

    result: Result
    test: Measurement
    folder: Path | None = None
    """Where the result file lies; None where it is not known."""

    @property
    def counts(self) -> PixelCounts | None:
        """The pixel counts of its episodes; None where none were recorded.

        Raises:
            DataError: a damaged file.
        """
        path = self.counts_file
        return None if path is None else _read_counts(path)

    @property
    def counts_file(self) -> Path | None:
        """Where the pixel counts of its episodes are, if they were recorded."""
        return self._beside("episodes", "csv")

    @property
    def images(self) -> EpisodeImages | None:
        """The images of its episodes; None where they were not recorded.

        Raises:
            DataError: a damaged file.
        """
        test = self.test
        return find(self.folder, test.episodes_sha256, test.episodes) if self.folder else None

    @property
    def class_names(self) -> dict[int, str]:
        """The names of the classes that occur; empty where its counts were not recorded."""
        counts = self.counts  # its classes and the test's are in the same order
        return dict(zip(counts.classes.tolist(), self.test.class_iou, strict=True)) if counts else {}

    @property
    def controls_file(self) -> Path | None:
        """Where the counts of its control episodes are, if there were such."""
        return self._beside("controls", "csv")

    @property
    def pictures(self) -> Path | None:
        """The file with its recorded pictures, if there is one."""
        return self._beside("pictures", "npz")

    def _beside(self, what: str, suffix: str) -> Path | None:
        test = self.test
        name = f"{what}_{test.weights}_{test.shot}shot_seed{test.seed}.{suffix}"
        return self.folder / name if self.folder and (self.folder / name).is_file() else None


def _read_counts(path: Path) -> PixelCounts:
    try:
        with path.open() as file:
            names = file.readline().strip().split(",")
            lines = file.readlines()
        if names != list(results.COUNTS) or not any(map(str.strip, lines)):
            raise ValueError(f"expected rows of {','.join(results.COUNTS)}")
        rows = np.loadtxt(lines, np.int64, comments=None, delimiter=",", ndmin=2)
        return episode_counts(rows)
    except ValueError as error:
        raise DataError(
            f"{path} does not hold pixel counts of episodes: {error}; move it away, and its interval is left out"
        ) from error
