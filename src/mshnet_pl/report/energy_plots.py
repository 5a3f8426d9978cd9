"""Energy maps of episodes as a figure, and their areas under the ROC curve as a table."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from math import isnan, nan
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from mshnet_pl.evaluation.energy import EnergyPicture
from mshnet_pl.report.formats import aligned

_OUTLINE = "white"


def draw(episodes: Sequence[EnergyPicture], pictures: bool = True) -> Figure:
    """A row a similarity and a column a block for every episode, the object's outline on each map.

    Each map has a colour scale of its own, from its smallest to its largest energy, which its title gives: levels of
    different blocks mean nothing to each other. Supports stand in the last columns of an episode's first row, the query
    first.

    Args:
        episodes: at least one.
        pictures: show query and supports too.
    """
    names, blocks = [*episodes[0].energy], [*next(iter(episodes[0].energy.values()))]
    extra = 1 + max(len(episode.support) for episode in episodes) if pictures else 0
    rows, columns = len(episodes) * len(names), len(blocks) + extra
    figure = Figure(figsize=(1.7 * columns, 1.9 * rows), layout="compressed")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for episode, part in zip(episodes, axes.reshape(len(episodes), len(names), columns), strict=True):
        first = part[0]
        for line, name in zip(part, names, strict=True):
            for ax, block in zip(line, blocks, strict=False):
                _map(ax, episode, name, block)
        place = {"rotation": 90, "va": "center", "ha": "right", "transform": first[0].transAxes}
        first[0].text(-0.05, 0.5, episode.title, fontsize=8, parse_math=False, **place)
        shown = [("query", episode.query, episode.truth)]
        shown += [("support", *pair) for pair in zip(episode.support, episode.support_mask, strict=True)]
        for ax, (title, image, mask) in zip(first[len(blocks) :], shown, strict=False):
            ax.imshow(image, extent=(0, 1, 1, 0))
            _outline(ax, mask)
            ax.set_title(title, fontsize=7)
    return figure


def rasterise(figure: Figure, dpi: int = 90) -> np.ndarray:
    """The figure's pixels, (height, width, 3) uint8."""
    file = BytesIO()
    figure.savefig(file, dpi=dpi)
    return np.array(Image.open(file).convert("RGB"))


def _map(ax: Axes, episode: EnergyPicture, name: str, block: int) -> None:
    energy, area = episode.energy[name][block], episode.separation[name][block]
    ax.imshow(energy, cmap="viridis", extent=(0, 1, 1, 0))
    _outline(ax, episode.truth)
    ax.set_title(f"{name}, block {block}\n{energy.min():.3f} to {energy.max():.3f}, AUC {area:.0f}", fontsize=7)


def _outline(ax: Axes, mask: np.ndarray) -> None:
    inside = mask == 1
    if inside.any() and not inside.all():
        ax.contour(inside, levels=[0.5], colors=_OUTLINE, linewidths=0.8, extent=(0, 1, 0, 1), origin="lower")


def mean(values: Sequence[float]) -> float:
    """The mean of those that are numbers; NaN if none is."""
    known = [value for value in values if not isnan(value)]
    return fmean(known) if known else nan


RocAreas = Mapping[str, Mapping[str, Mapping[int, float]]]
"""RocAreas under the ROC curve in percent, by class, similarity and block."""


def table(areas: RocAreas) -> str:
    """Two Markdown tables of areas under the ROC curve, means over classes and every class.

    The first has a row a similarity and a column a block, the second a row a class and a column a similarity and block;
    a class without any area has none.
    """
    first = next(iter(areas.values()))
    names, blocks = [*first], [*next(iter(first.values()))]
    lines = [["similarity", *(f"block {block}" for block in blocks)], ["---", *["---:"] * len(blocks)]]
    for name in names:
        means = (mean([by_name[name][block] for by_name in areas.values()]) for block in blocks)
        lines.append([name, *(f"{value:.1f}" for value in means)])
    columns = [(name, block) for name in names for block in blocks]
    classes = [["class", *(f"{name}, block {block}" for name, block in columns)], ["---", *["---:"] * len(columns)]]
    known = {c: by_name for c, by_name in areas.items() if not all(isnan(by_name[name][block]) for name, block in columns)}
    classes += [[c, *(f"{by_name[name][block]:.1f}" for name, block in columns)] for c, by_name in known.items()]
    return f"{aligned(lines)}\n\n{aligned(classes)}"
