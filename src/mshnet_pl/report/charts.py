"""Training curves and class scores as SVG in the reader's own colours and letters."""

import io
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mshnet_pl.report.bootstrap import Estimate

_INK = "#010203"
"""Stands for the page's text colour until the SVG is written."""
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
"""Okabe and Ito's, which the colour-blind tell apart."""
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "report", "text.parse_math": False, "font.size": 9, "axes.titlesize": 9,
    "axes.prop_cycle": cycler(color=_COLOURS), "axes.grid": True,
    "grid.color": _INK, "grid.alpha": 0.15, "grid.linewidth": 0.6,
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
_WIDTH = 4.6
"""Inches, as wide as a phone shows them with letters of their size; the page puts several side by side."""
_COLUMNS = 60
"""Letters a line of a legend."""
_DASHES = ("solid", "dashed", "dashdot", "dotted")
_LINE: Mapping[str, Any] = {"lw": 1.3}
_LOSS, _PARTS = "train/loss", "train/loss_"
_MIOU: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "train/miou": ("training", {"lw": 0.8, "alpha": 0.7}),
    "val/miou": ("validation", {"marker": "o", "ms": 3.5}),
}

Curves = Mapping[str, Float64[np.ndarray, "_ 2"]]


def training_curves(runs: Sequence[tuple[str, Curves]], title: str) -> list[str]:
    """The loss, its parts as means over the runs, and mIoU: a picture each, without those that nothing was logged for.

    A name has a colour and a line style, a part of the loss as well; of mIoU training is thin, validation has dots.

    Args:
        runs: name, such as ``fold 0``, and curves; seeds of a fold have the same name.
        title: read aloud in place of the pictures, with what each shows before it.
    """
    names = _styles(name for name, _ in runs)
    logged = dict.fromkeys(quantity for _, curves in runs for quantity in curves)
    pictures = []
    with mpl.rc_context(_STYLE):
        if _LOSS in logged:
            lines = [(names[name], curves[_LOSS]) for name, curves in runs if _LOSS in curves]
            pictures.append(_curves("loss", lines, names, title))
        if parts := _styles(sorted(quantity for quantity in logged if quantity.startswith(_PARTS))):
            lines = [(style, _mean([curves[part] for _, curves in runs if part in curves])) for part, style in parts.items()]
            words = {part.removeprefix(_PARTS).replace("block", "block "): style for part, style in parts.items()}
            pictures.append(_curves("parts of the loss" + ", mean over the runs" * (len(runs) > 1), lines, words, title))
        if shown := [_MIOU[quantity] for quantity in _MIOU if quantity in logged]:
            lines = [
                ({**names[name], **style}, curves[quantity])
                for quantity, (_, style) in _MIOU.items()
                for name, curves in runs
                if quantity in curves
            ]
            kinds = {kind: {"color": _INK, "ls": "solid", **style} for kind, style in shown}
            pictures.append(_curves("mIoU, %", lines, names | kinds, title))
    return pictures


def class_bars(classes: Sequence[str], scores: Mapping[str, Mapping[str, Estimate]], title: str) -> str:
    """A bar a class and method with its interval."""
    with mpl.rc_context(_STYLE):
        height = 0.8 / len(scores)
        figure = Figure(
            figsize=(_WIDTH, 0.7 + 0.3 * len(scores) + len(classes) * max(0.24, 0.13 * len(scores))), layout="constrained"
        )
        ax: Axes = figure.subplots()
        for i, (method, by_class) in enumerate(scores.items()):
            known = [(place, by_class[name]) for place, name in enumerate(classes) if name in by_class]
            y = [place + (i + 0.5) * height - 0.4 for place, _ in known]
            ax.barh(y, [e.value for _, e in known], height, color=f"C{i}", alpha=0.75, label=fill(method, _COLUMNS))
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


def _styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """A colour and a line style a name."""
    looks = zip(dict.fromkeys(names), cycle(_COLOURS), cycle(_DASHES), strict=False)
    return {name: {"color": colour, "ls": dashes} for name, colour, dashes in looks}


def _curves(
    heading: str,
    lines: Sequence[tuple[Mapping[str, Any], Float64[np.ndarray, "_ 2"]]],
    legend: Mapping[str, Mapping[str, Any]],
    title: str,
) -> str:
    """One picture of lines over steps, its legend below."""
    figure = Figure(figsize=(_WIDTH, 3.1), layout="constrained")
    ax = figure.subplots()
    for style, points in lines:
        ax.plot(*_thinned(points).T, **{**_LINE, **style})
    ax.set_title(heading)
    ax.set_xlabel("step")
    handles = [Line2D([], [], **{**_LINE, **style}) for style in legend.values()]
    columns = 4 if max(map(len, legend)) < 12 else 1
    figure.legend(
        handles, [fill(name, _COLUMNS) for name in legend], loc="outside lower center", ncols=columns, frameon=False,
        fontsize=8, handlelength=2.6,
    )  # fmt: skip
    return _svg(figure, f"{heading} of {title}")


def _mean(curves: Sequence[Float64[np.ndarray, "_ 2"]]) -> Float64[np.ndarray, "steps 2"]:
    """The mean at every step that was logged."""
    points = np.concatenate(curves)
    steps, place = np.unique(points[:, 0], return_inverse=True)
    return np.stack([steps, np.bincount(place, points[:, 1]) / np.bincount(place)], axis=1)


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
