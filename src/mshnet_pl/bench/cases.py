"""``mshnet-bench``: every case in fresh processes, and its table."""

import itertools
import json
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mshnet_pl import results
from mshnet_pl.bench.measure import summary
from mshnet_pl.config import plain, typed
from mshnet_pl.config.bench_schema import BenchConfig
from mshnet_pl.errors import ConfigError, RunFailed
from mshnet_pl.options import Work
from mshnet_pl.runs import build
from mshnet_pl.utils import devices
from mshnet_pl.utils.files import write_whole

log = logging.getLogger(__name__)

_COLUMNS = ("what", "size", "shots", "batch", "precision", "compile")


def run(raw: DictConfig) -> tuple[list[dict[str, Any]], Path]:
    """Measure and write ``bench.out``.

    Returns:
        A row a case, and the file.

    Raises:
        ConfigError: a setting that cannot work, or a file that would be overwritten; nothing was measured then.
        RunFailed: a case ended in an error, which its process has printed.
    """
    config = typed(raw)
    assert isinstance(config, BenchConfig)
    bench, out = config.bench, Path(config.bench.out)
    found = []
    if Work.test in bench.what and config.data.source is None:
        found.append("bench.what=[test] needs a data set; give data=synthetic, or data=pascal5i data.root=DIR")
    if out.exists() and not bench.overwrite:
        found.append(f"bench.out={out} exists; give another name, or bench.overwrite=true")
    if found:
        raise ConfigError("\n".join(found))
    build.make_method(raw)  # what it refuses is said before anything is measured
    rows = []
    for what, size, shots, precision, compiled in itertools.product(
        bench.what, bench.sizes, bench.shots, bench.precision, bench.compile
    ):
        case = {"what": what.value, "size": size, "shots": shots, "batch": bench.batch, "precision": precision.value}
        case |= {"compile": compiled, "repeats": bench.repeats}
        log.info("%s", ", ".join(f"{key}={case[key]}" for key in _COLUMNS))
        measured = {**_fresh(raw, {**case, "memory": True}), **_fresh(raw, {**case, "memory": False})}
        rows.append({**case, **measured, **summary(measured["seconds"], bench.batch)})
        log.info("%s", table(rows).splitlines()[-1])
    about: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": results.versions(),
        "machine": results.machine(devices.chosen(raw.trainer.accelerator)),
        "git": results.git_revision(),
        "config": plain(raw),
    }
    write_whole(out, f"{json.dumps({**about, 'cases': rows}, indent=1)}\n".encode())
    return rows, out


def _fresh(raw: DictConfig, case: Mapping[str, Any]) -> dict[str, Any]:
    """One case in a process of its own."""
    given = json.dumps({"config": plain(raw), "case": case})
    command = [sys.executable, "-m", "mshnet_pl.bench.measure"]
    done = subprocess.run(command, input=given, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise RunFailed(f"mshnet-bench: the process of {dict(case)} ended with exit code {done.returncode}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a row a case; times are medians an episode with half the distance of the quartiles."""
    lines = [
        "| work | size | shots | batch | precision | compiled | ms an episode | R50 units | episodes/s | peak MiB | GMAC "
        "| parts in units |",
        "|---|---:|---:|---:|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        parts = ", ".join(f"{name} {units:.2f}" for name, units in row["parts_units"].items())
        gmac = f"{row['gmac']:.0f}" if row["gmac"] else "-"
        lines.append(
            f"| {row['what']} | {row['size']} | {row['shots']} | {row['batch']} | {row['precision']} | "
            f"{'yes' if row['compile'] else 'no'} | {row['ms']:.0f} ± {row['spread_ms']:.0f} | {row['units']:.2f} | "
            f"{row['episodes_per_second']:.2f} | {row['peak_mib']:.0f} | {gmac} | {parts or '-'} |"
        )
    return "\n".join(lines)
