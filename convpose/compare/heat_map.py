"""A metric over two keys of a study: a grid of cells or, of a random search, points."""

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from convpose.compare.columns import METRICS, Column
from convpose.compare.comparison import Comparison
from convpose.errors import ConfigError
from convpose.plot.curves import INK, new_figure

MOST_CELLS = 12  # values of a key beyond which it was not chosen from a list
REACH = 3  # times from the best to the median; what is worse is as dark, and hides no difference
COLOURS = "cividis"  # even in lightness, to colour-blind eyes too


def heat_map(comparison: Comparison, x: str, y: str, metric: str | None = None) -> Figure:
    """The metric of each run's best epoch over two keys; bright is good.

    Runs of one cell (seeds, or other keys that differ) are averaged, and the best cell is bold. If
    a key has more than 12 values, as in a random search, every run is a point.

    Args:
        comparison: of the study.
        x: key along the columns, ``optimizer.lr``.
        y: key along the rows.
        metric: a column of the comparison; None: its monitor.

    Raises:
        ConfigError: no such key or metric.
    """
    across, down, measured = (
        _column(comparison, name) for name in (x, y, metric or comparison.monitor)
    )
    values = zip(across.values, down.values, measured.values, strict=True)
    runs = [run for run in values if None not in run]
    title, show, less = METRICS.get(measured.name, (measured.name, "{:.4g}".format, False))
    colours = f"{COLOURS}_r" if less else COLOURS
    figure, (axes,) = new_figure(f"{comparison.title}, {title}", columns=1, width=7.2)
    axes.set(xlabel=across.name, ylabel=down.name)
    columns, rows = (sorted({run[i] for run in runs}, key=_order) for i in (0, 1))
    if max(len(columns), len(rows)) > MOST_CELLS:
        scale = 100 if "%" in title else 1
        places, heights, results = zip(*runs, strict=True)
        points = axes.scatter(
            places, heights, c=scale * np.array(results), cmap=colours, s=90, edgecolor=INK
        )
        figure.colorbar(points, ax=axes, label=title)
        for name, axis in (("x", columns), ("y", rows)):
            if all(isinstance(value, int | float) and value > 0 for value in axis):
                axes.set(**{f"{name}scale": "log" if axis[-1] > 10 * axis[0] else "linear"})
        return figure
    cells = np.full((len(rows), len(columns)), math.nan)
    for i, j in np.ndindex(*cells.shape):
        own = [value for a, b, value in runs if (a, b) == (columns[j], rows[i])]
        cells[i, j] = np.mean(own) if own else math.nan
    best = np.nanmin(cells) if less else np.nanmax(cells)
    reach = REACH * abs(np.nanmedian(cells) - best)
    ends = (best, best + reach) if less else (best - reach, best)
    picture = axes.imshow(cells, colours, vmin=ends[0], vmax=ends[1], aspect="auto", origin="lower")
    axes.grid(visible=False)
    axes.set_xticks(range(len(columns)), map(_text, columns))
    axes.set_yticks(range(len(rows)), map(_text, rows))
    for (i, j), value in np.ndenumerate(cells):
        if math.isfinite(value):
            ink = INK if sum(picture.cmap(picture.norm(value))[:3]) > 1.5 else "white"
            weight = "bold" if value == best else "normal"
            axes.text(j, i, show(value), ha="center", va="center", color=ink, weight=weight)
    return figure


def _column(comparison: Comparison, name: str) -> Column:
    found = [column for column in comparison.columns if column.name == name]
    if not found:
        keys = ", ".join(column.name for column in comparison.of_kind("key"))
        raise ConfigError(f"{name}: no such column in {comparison.title}; keys that differ: {keys}")
    return found[0]


def _order(value: Any) -> tuple[bool, Any]:
    """Numbers by size, then words."""
    number = isinstance(value, int | float)
    return not number, value if number else str(value)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
