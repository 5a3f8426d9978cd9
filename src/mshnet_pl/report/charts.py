"""Training curves and class scores as SVG in the reader's own colours and letters."""

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mshnet_pl.report.bootstrap import Estimate

_INK = "#010203"
"""Stands for the page's text colour until the SVG is written."""
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "report", "text.parse_math": False, "font.size": 9, "axes.titlesize": 9,
    "axes.grid": True, "grid.color": _INK, "grid.alpha": 0.15, "grid.linewidth": 0.6,
    "axes.spines.top": False, "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor"), _INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), _INK),
}  # fmt: skip
_SHORTER = (
    (r"^.*?<svg [^>]*?(viewBox=\"[^\"]+\")[^>]*>", r'<svg class="chart" role="img" \1>'),
    (r"<style.*?</style>|<metadata>.*?</metadata>|<!--.*?-->", ""),
    (r'<g id="[^"]*">', "<g>"),
    (r" ?font-family: [^;]*;", ""),  # the page's own
    (r"font: ([\d.]+px)[^;\"]*", r"font-size: \1"),
    (r"(\d\.\d\d)\d+(?=[^<>]*>)", r"\1"),  # in tags only
    (r"\s+", " "),
)
"""What to replace in matplotlib's SVG for one that is part of a page."""
_POINTS = 150
_LINES = ("solid", "dashed", "dashdot", "dotted")
_NAMES = {"train/miou": "training", "val/miou": "validation"}

Curves = Mapping[str, Float64[np.ndarray, "points 2"]]


def training_curves(runs: Sequence[tuple[str, Curves]], title: str) -> str:
    """Loss parts on the left, mIoU on the right; a colour a quantity, a line style a name.

    Args:
        runs: name, such as ``fold 0``, and curves; seeds of a fold have the same name.
        title: read aloud in place of the picture.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2)
        styles = {name: _LINES[i % len(_LINES)] for i, name in enumerate(dict.fromkeys(name for name, _ in runs))}
        quantities = sorted({quantity for _, curves in runs for quantity in curves})
        losses = [quantity for quantity in quantities if quantity.startswith("train/loss")]
        for ax, wanted in ((left, losses), (right, [quantity for quantity in quantities if quantity not in losses])):
            for i, quantity in enumerate(wanted):
                for name, curves in runs:
                    if quantity in curves:
                        ax.plot(*_thinned(curves[quantity]).T, color=f"C{i}", ls=styles[name], lw=1.1)
                ax.plot([], [], color=f"C{i}", label=_NAMES.get(quantity, quantity.removeprefix("train/").replace("_", " ")))
            ax.set_xlabel("step")
            if wanted:
                ax.legend(frameon=False, fontsize=8)
        left.set_title("loss")
        right.set_title("mIoU, %")
        lines = [Line2D([], [], color=_INK, ls=style, lw=1.1) for style in styles.values()]
        figure.legend(lines, list(styles), loc="outside lower center", ncols=len(lines), frameon=False, fontsize=8)
        return _svg(figure, title)


def class_bars(classes: Sequence[str], scores: Mapping[str, Mapping[str, Estimate]], title: str) -> str:
    """A bar a class and method with its interval.

    Args:
        classes: from top to bottom.
        scores: by method, then by class, in percent.
        title: read aloud in place of the picture.
    """
    with mpl.rc_context(_STYLE):
        height = 0.8 / len(scores)
        figure = Figure(
            figsize=(9, 0.7 + 0.3 * len(scores) + len(classes) * max(0.24, 0.13 * len(scores))), layout="constrained"
        )
        ax: Axes = figure.subplots()
        for i, (method, by_class) in enumerate(scores.items()):
            known = [(place, by_class[name]) for place, name in enumerate(classes) if name in by_class]
            y = [place + (i + 0.5) * height - 0.4 for place, _ in known]
            ax.barh(y, [e.value for _, e in known], height, color=f"C{i}", alpha=0.75, label=method)
            for at, (_, e) in zip(y, known, strict=True):
                if e.low is not None and e.high is not None:
                    ax.hlines(at, e.low, e.high, color=_INK, lw=1)
        ax.set_yticks(range(len(classes)), classes)
        ax.set_ylim(len(classes) - 0.4, -0.6)
        ax.set_xlim(0, 100)
        ax.set_xlabel("IoU, %")
        ax.grid(visible=False, axis="y")
        figure.legend(loc="outside upper left", frameon=False, fontsize=8)
        return _svg(figure, title)


def _thinned(points: Float64[np.ndarray, "points 2"]) -> Float64[np.ndarray, "kept 2"]:
    """Means of neighbouring points, so that few enough are left."""
    return np.array([part.mean(0) for part in np.array_split(points, min(len(points), _POINTS))])


def _svg(figure: Figure, title: str) -> str:
    text = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the letters are the reader's
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Title": title})
    svg = text.getvalue().replace(_INK, "currentColor")
    for pattern, shorter in _SHORTER:
        svg = re.sub(pattern, shorter, svg, flags=re.DOTALL)
    return svg
