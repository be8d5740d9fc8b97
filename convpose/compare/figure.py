"""Draw a comparison with Matplotlib: a figure for a paper, a metric over two keys.

The figure of a paper has its fonts embedded, and its table in LaTeX beside it. Over two keys of a
study a metric is drawn as cells or, for a random search, as points.
"""

import logging
import math
from pathlib import Path
from statistics import mean, stdev
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from convpose import files
from convpose.compare.charts import COLOURS, GREY, LABEL_WIDTH
from convpose.compare.columns import Column, plain_text
from convpose.compare.comparison import Comparison, left_out
from convpose.compare.settings import Setting, curve, of_runs, seed_table, settings
from convpose.compare.varied import MOST_VALUES, colour_range, mean_cells, ordered
from convpose.errors import ConfigError
from convpose.plot.curves import INK, new_figure, save_figure
from convpose.plot.tables import Table

MOST = len(COLOURS)  # settings or runs that have a colour and a name
# TrueType inside of PDF and PostScript, which publishers ask for; text of an SVG stays text
FONTS: Any = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"}
TO_LATEX = {"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "±": r"$\pm$", "−": "$-$", "–": "--"}
COLOUR_MAP = "cividis"  # even in lightness, also for the colour-blind


def write_figure(comparison: Comparison, path: Path) -> Path:
    """Draw the monitor over the epochs, and its best value; write the table beside the figure.

    Settings with seeds are their mean, with a band of a deviation in the curves and a bar in the
    other half; beyond eight, the best eight are drawn in colour and the others in grey. Without
    seeds each run is a setting.

    Returns:
        The LaTeX file.
    """
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it tells of each table of each font
    keys, found = settings(comparison)
    if not found:
        keys = [key for key in comparison.of_kind("key") if key.rank is not None]
        texts = list(zip(*(key.texts for key in keys), strict=True))
        found = [Setting(texts[i] if keys else (), [i]) for i in range(len(comparison.runs))]
    metric = comparison.judged
    with rc_context(FONTS):
        figure, (curves, points) = new_figure("", columns=2, width=8.0)
        names: list[str] = []
        for n, setting in reversed(list(enumerate(found))):
            colour = COLOURS[n] if n < MOST else GREY
            epochs, centre, spread = (np.array(x) for x in curve(comparison, setting))
            curves.plot(epochs, centre, color=colour, linewidth=1.6)
            if len(setting.runs) > 1:
                ends = centre - spread, centre + spread
                curves.fill_between(epochs, *ends, color=colour, alpha=0.2, linewidth=0)
            if n < MOST:
                best = of_runs(metric, setting.runs, metric.scale)
                error = stdev(best) if len(best) > 1 else None
                points.errorbar(
                    mean(best), len(names), xerr=error, fmt="o", color=colour, capsize=3
                )
                names.append(fill(setting.label(keys), LABEL_WIDTH))
        curves.set(xlabel="epoch", ylabel=metric.title)
        points.set(xlabel=f"{metric.title}, best epoch", ylim=(-0.6, len(names) - 0.4))
        points.set_yticks(range(len(names)), names)
        save_figure(figure, path)
    table = seed_table(comparison) or comparison.table()
    written = path.with_name(f"{path.stem}_table.tex")  # out.tex may be the paper
    files.write(written, to_latex(table))
    return written


def to_latex(table: Table) -> str:
    """Write a table for ``booktabs``, its caption as a comment."""

    def line(cells: list[str]) -> str:
        return " & ".join(cells) + r" \\"

    rows = [[_escaped(cell) for cell in row] for row in (table.header, *table.rows)]
    columns = "l" + "r" * (len(table.header) - 1)
    return "\n".join(
        [
            f"% {table.title}: {table.caption}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            line(rows[0]),
            r"\midrule",
            *map(line, rows[1:]),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _escaped(text: str) -> str:
    plain = text.replace("\\", "/").replace("$", r"\$")
    return "".join(TO_LATEX.get(letter, letter) for letter in plain)


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
    title, less = measured.metric.title, measured.metric.less_is_better
    colours = f"{COLOUR_MAP}_r" if less else COLOUR_MAP
    figure, (axes,) = new_figure(f"{comparison.title}, {title}", columns=1, width=7.2)
    axes.set(xlabel=across.name, ylabel=down.name)
    columns, rows = (ordered({run[i] for run in runs}) for i in (0, 1))
    if max(len(columns), len(rows)) > MOST_VALUES:
        x_values, y_values, results = zip(*runs, strict=True)
        shown = measured.scale * np.array(results)
        points = axes.scatter(x_values, y_values, c=shown, cmap=colours, s=90, edgecolor=INK)
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
            text = measured.metric.write(value)
            axes.text(j, i, text, ha="center", va="center", color=ink, weight=weight)
    return figure


def _column(comparison: Comparison, name: str) -> Column:
    if (found := comparison.column(name)) is None:
        keys = ", ".join(column.name for column in comparison.of_kind("key"))
        raise ConfigError(f"{name}: no such column in {comparison.title}; keys that differ: {keys}")
    return found
