"""What was logged as a CSV file, whole after any number of interruptions."""

import csv
import io
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from mshnet_pl.utils.files import write_whole

_PLACE = {"step", "epoch"}


class CSVTracker(CSVLogger):
    """Lightning's ``CSVLogger``, which keeps what an interrupted training has logged: Lightning's own deletes it.

    What is logged for a step once more replaces what that step, and all later ones, had logged before.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer of ``metrics.csv``."""
        if not isinstance(self._experiment, _Writer):
            Path(self.root_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = _Writer(self.log_dir)
        return self._experiment


class _Writer(ExperimentWriter):
    def __init__(self, log_dir: str) -> None:
        self._before: list[dict[str, str]] | None = None
        super().__init__(log_dir)

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if path.is_file():
            text = path.read_text(errors="replace").replace("\0", "")
            self._before = [*csv.DictReader(io.StringIO(text, newline=""))]
            self.metrics_keys = sorted({key for row in self._before for key in row if key})

    def save(self) -> None:
        """Append the rows that were logged since; the first time without the earlier ones that they replace."""
        if self.metrics and self._before is not None:
            kept = [row for row in self._before if not _is_replaced(row, self.metrics)]
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, self.metrics_keys)
            writer.writeheader()
            writer.writerows({key: row.get(key, "") for key in self.metrics_keys} for row in kept)
            write_whole(Path(self.metrics_file_path), text.getvalue().encode())
            self._before = None
        super().save()


def _is_replaced(row: dict[str, str], new: list[dict[str, Any]]) -> bool:
    """Whether new rows begin before this one, or log one of its values for the same step; damaged rows count as that."""
    try:
        step, first = int(row["step"]), min(one["step"] for one in new)
    except (KeyError, TypeError, ValueError):
        return True
    again = {key for one in new if one["step"] == step for key in one} - _PLACE
    return step > first or bool(again & {key for key, value in row.items() if value})
