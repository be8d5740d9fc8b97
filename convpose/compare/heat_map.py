"""Draw a metric over two keys of a study: as cells or, for a random search, as points."""

import math

import numpy as np
from matplotlib.figure import Figure

from convpose.compare.columns import METRICS, Column, plain_text
from convpose.compare.comparison import Comparison, left_out
from convpose.compare.varied import MOST_VALUES, colour_range, mean_cells, ordered
from convpose.errors import ConfigError
from convpose.plot.curves import INK, new_figure

COLOUR_MAP = "cividis"  # even in lightness, also for the colour-blind


def heat_map(comparison: Comparison, x: str, y: str, metric: str | None = None) -> Figure:
    """Draw the metric of each run's best epoch over two keys; bright is good.

    Runs of one cell (seeds, or other keys that differ) are averaged, without those that did not
    finish, and the best cell is bold. If a key has more than 12 values, as in a random search,
    every run is a point.

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
    values = list(zip(across.values, down.values, measured.values, strict=True))
    runs = [run for run in values if None not in run]
    title, show, less = METRICS.get(measured.name, (measured.name, "{:.4g}".format, False))
    colours = f"{COLOUR_MAP}_r" if less else COLOUR_MAP
    figure, (axes,) = new_figure(f"{comparison.title}, {title}", columns=1, width=7.2)
    axes.set(xlabel=across.name, ylabel=down.name)
    columns, rows = (ordered({run[i] for run in runs}) for i in (0, 1))
    if max(len(columns), len(rows)) > MOST_VALUES:
        scale = 100 if "%" in title else 1
        x_values, y_values, results = zip(*runs, strict=True)
        points = axes.scatter(
            x_values, y_values, c=scale * np.array(results), cmap=colours, s=90, edgecolor=INK
        )
        figure.colorbar(points, ax=axes, label=title)
        for name, axis in (("x", columns), ("y", rows)):
            if all(isinstance(value, int | float) and value > 0 for value in axis):
                axes.set(**{f"{name}scale": "log" if axis[-1] > 10 * axis[0] else "linear"})
        return figure
    axes.set_title(left_out(comparison).removeprefix("; "), fontsize="small")
    columns, rows, means = mean_cells(comparison, across, down, measured)
    cells = np.array(means, float)
    ends = colour_range(cells[np.isfinite(cells)].tolist(), less)
    best = ends[0] if less else ends[1]
    picture = axes.imshow(cells, colours, vmin=ends[0], vmax=ends[1], aspect="auto", origin="lower")
    axes.grid(visible=False)
    axes.set_xticks(range(len(columns)), map(plain_text, columns))
    axes.set_yticks(range(len(rows)), map(plain_text, rows))
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
