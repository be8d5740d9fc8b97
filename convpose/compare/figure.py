"""Draw a comparison for a paper: one figure with fonts embedded, and its table in LaTeX."""

import logging
from pathlib import Path
from statistics import mean, stdev
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib import rc_context

from convpose import files
from convpose.compare.charts import COLOURS, GREY, LABEL_WIDTH
from convpose.compare.comparison import Comparison
from convpose.compare.settings import Setting, curve, of_runs, seed_table, settings
from convpose.plot.curves import new_figure, save_figure
from convpose.plot.tables import Table

MOST = len(COLOURS)  # settings or runs that have a colour and a name
# TrueType inside of PDF and PostScript, which publishers ask for; text of an SVG stays text
FONTS: Any = {"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"}
TO_LATEX = {"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "±": r"$\pm$", "−": "$-$", "–": "--"}


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
