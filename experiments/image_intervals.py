"""Differences of recorded runs, with the interval that drew episodes and the one that draws images, as Markdown.

Run with ``python experiments/image_intervals.py``; intervals that draw episodes stand beside those that draw images.
"""

from pathlib import Path

from records import unpack

from mshnet_pl.report.collection import collect
from mshnet_pl.report.compare import compare
from mshnet_pl.report.counts import MIOU
from mshnet_pl.report.formats import aligned

RUNS = Path(__file__).parent / "pascal5i_mini"
BY_EPISODE = {
    ("improved", "both", 1): "[5.3, 5.9]",
    ("improved", "unfiltered", 1): "[0.6, 1.0]",
    ("improved_800_steps", "improved", 1): "[-1.7, -1.1]",
    ("h200/both", "h200/prototype", 1): "[2.4, 3.2]",
    ("both", "contrast_baseline", 5): "[0.7, 1.6]",
    ("h200/both", "baseline", 5): "[-1.4, -0.4]",
}


def main() -> None:
    """Print a line a difference."""
    if not [*RUNS.glob("**/result.json")]:
        unpack()
    table = [["A", "B", "tested", "A - B", "by episode", "by image", "p"], ["---", "---", "---", *["---:"] * 4]]
    for (a, b, shot), by_episode in BY_EPISODE.items():
        runs = [collect([RUNS / name]).tests for name in (a, b)]
        (value, low, high), p = compare(*runs, shot=shot).scores[MIOU][2:]
        table.append([a, b, f"{shot}-shot", f"{value:+.1f}", by_episode, f"[{low:.1f}, {high:.1f}]", f"{p:.4f}"])
    print(aligned(table))


if __name__ == "__main__":
    main()
