"""Draw a metric over two keys of a study: as cells or, for a random search, as points."""

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from convpose.compare.columns import METRICS, Column, plain_text
from convpose.compare.comparison import Comparison, left_out
from convpose.errors import ConfigError
from convpose.plot.curves import INK, new_figure

MOST_CELLS = 12  # values of a key; more were drawn at random, not chosen from a list
# The colours end at this multiple of the distance from the best to the median: much worse runs
# share the darkest colour, so that differences between good runs stay visible.
COLOUR_RANGE = 3
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
    columns, rows = (sorted({run[i] for run in runs}, key=_order) for i in (0, 1))
    if max(len(columns), len(rows)) > MOST_CELLS:
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
    ended = zip(comparison.runs, values, strict=True)
    runs = [row for run, row in ended if run.finished and None not in row]
    cells = np.full((len(rows), len(columns)), math.nan)
    for i, j in np.ndindex(*cells.shape):
        found = [value for a, b, value in runs if (a, b) == (columns[j], rows[i])]
        cells[i, j] = np.mean(found) if found else math.nan
    best = np.nanmin(cells) if less else np.nanmax(cells)
    span = COLOUR_RANGE * abs(np.nanmedian(cells) - best)
    ends = (best, best + span) if less else (best - span, best)
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


def _order(value: Any) -> tuple[bool, Any]:
    """Sort numbers by size, words after them."""
    number = isinstance(value, int | float)
    return not number, value if number else str(value)
