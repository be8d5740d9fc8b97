"""Compare runs; write one table and one page: sortable table, curves, joints, parallel coordinates.

Plotly is part of the HTML file and the page's own policy forbids the network, so that it opens
anywhere. The template, with its style and its few lines of script, is ``page.html``.
"""

import json
import math
import os
import string
import time
from collections.abc import Iterable
from html import escape
from importlib import resources
from pathlib import Path

from omegaconf import DictConfig, ListConfig
from rich.console import Console

import convpose
from convpose import files
from convpose.compare.charts import COLOURS, Chart, colour, curves, joints, over_seeds, parallel
from convpose.compare.columns import Column, duration
from convpose.compare.comparison import WHAT_TO_TYPE, Comparison, read_comparison
from convpose.compare.settings import seed_table, to_markdown
from convpose.compare.varied import heat, marginals
from convpose.config.run_dirs import named_like
from convpose.config.schema import Natural, check_table
from convpose.errors import ConfigError
from convpose.files import check_output
from convpose.plot.tables import Table

FIGURES = (".pdf", ".svg", ".png")
KEYS = {"top": Natural, "figure": str | None}


def compare(cfg: DictConfig) -> None:
    """Compare the runs that ``cfg.study`` or ``cfg.runs`` names; print a table, write the files.

    Args:
        cfg: of ``conf/compare.yaml``.

    Raises:
        ConfigError: nothing named, no such folder, no run in it, no place to write to, or a figure
            of another kind.
    """
    check_table(cfg, KEYS)
    figure = Path(cfg.figure) if cfg.figure else None
    if figure and figure.suffix.lower() not in FIGURES:
        raise ConfigError(f"figure={figure}: expected a name that ends in {', '.join(FIGURES)}")
    folders, root = chosen_folders(cfg)
    output = Path(cfg.output or (root if len(folders) == 1 else cfg.paths.runs))
    check_output(output)
    comparison = read_comparison(folders, root)
    console = Console()
    console.print(comparison.table(cfg.top, console.width).to_rich())
    if (settings := seed_table(comparison, console.width)) is not None:
        console.print(settings.to_rich())
    for path, reason in comparison.problems[: cfg.top]:
        console.print(f"  {path}: {reason}", style="yellow", markup=False, highlight=False)
    if more := len(comparison.problems[cfg.top :]):
        console.print(f"  … and {more} more in compare.md", style="yellow")
    output.mkdir(parents=True, exist_ok=True)
    files.write(output / "compare.csv", comparison.to_csv())
    files.write(output / "compare.md", to_markdown(comparison))
    files.write(output / "compare.html", page(comparison))
    if figure:
        from convpose.compare.figure import write_figure  # late: without it no Matplotlib

        drawn = f"written: {files.shown(figure)}, {files.shown(write_figure(comparison, figure))}"
        console.print(drawn, markup=False, highlight=False, soft_wrap=True)
    page_at = files.shown(output / "compare.html")
    written = f"written to {files.shown(output)}: compare.csv, compare.md; open {page_at}"
    console.print(written, markup=False, highlight=False, soft_wrap=True)


def chosen_folders(cfg: DictConfig) -> tuple[list[Path], Path]:
    """Return the folders to look into, and their common parent."""
    if (cfg.study is None) == (not cfg.runs):
        raise ConfigError("name what to compare: study=runs/NAME, or runs=[FOLDER,FOLDER]")
    many = isinstance(cfg.runs, ListConfig)
    folders = [Path(str(name)) for name in (cfg.runs if many else [cfg.study or cfg.runs])]
    for i, folder in enumerate(folders):
        if not folder.exists() and len(like := named_like(folder)) == 1:
            folders[i] = folder = like[0]  # its number, as in run=runs/rates/3
        if not folder.is_dir():
            if (known := Path(cfg.paths.runs) / folder).is_dir():
                raise ConfigError(f"{folder}: no such folder; did you mean {known}?")
            there = sorted(p.name for p in Path(cfg.paths.runs).glob("*/") if p.name[0] != ".")
            listed = f"\nin {cfg.paths.runs} there are: {', '.join(there)}" if there else ""
            raise ConfigError(f"{folder}: no such folder; {WHAT_TO_TYPE}{listed}")
    common = os.path.relpath(os.path.commonpath([folder.resolve() for folder in folders]))
    return folders, folders[0] if len(folders) == 1 else Path(common)


def page(comparison: Comparison) -> str:
    """Fill the template of the page; return it as text."""
    from plotly.offline import get_plotlyjs  # late: the printed table does not wait for it

    losses, scores = curves(comparison)
    charts = {"curve-train": losses[0], "curve-val": losses[1], "curve-score": scores}
    boxes = "".join(_box(name, chart) for name, chart in charts.items())
    many = f"the {len(COLOURS)} best runs" if len(comparison.runs) > len(COLOURS) else ""
    sections = []
    if table := seed_table(comparison):
        seeds = {f"seeds-{n}": chart for n, chart in enumerate(over_seeds(comparison))}
        charts |= seeds
        drawn = "".join(_box(name, chart) for name, chart in seeds.items())
        content = f'<div class="curves">{drawn}</div>{_plain_table(table)}'
        note = "bands and bars are the deviation over seeds; brackets are 95 % intervals"
        sections.append(_section("Settings over seeds", note, content))
    if varied := [*([cells] if (cells := heat(comparison)) else []), *marginals(comparison)]:
        named = {f"keys-{n}": chart for n, chart in enumerate(varied)}
        charts |= named
        drawn = "".join(_box(name, chart) for name, chart in named.items())
        note = "cells are means of finished runs; bars are medians; open points did not finish"
        sections.append(
            _section("Keys that were varied", note, f'<div class="curves">{drawn}</div>')
        )
    for subset, chart in joints(comparison).items():
        title = f"PCK@0.2 of each joint, {'validation, best epoch' if subset == 'val' else subset}"
        name = f"joints-{len(charts)}"
        charts[name] = chart
        shown = [trace["meta"]["run"] for trace in chart["data"]]
        content = f'{_legend(comparison, shown)}<div class="wide">{_box(name, chart)}</div>'
        sections.append(_section(title, many, content))
    if axes := parallel(comparison):
        charts["curve-axes"] = axes
        note = "better is up; a dragged box keeps the runs in it, a double click brings back all"
        content = f'<div class="wide">{_box("curve-axes", axes)}</div>'
        sections.append(_section("Parallel coordinates", note, content))
    if comparison.problems:
        items = [f"<li><b>{escape(p)}</b> {escape(r)}</li>" for p, r in comparison.problems]
        note = "runs with a validated epoch are in the table all the same"
        content = f"<ul>{''.join(items)}</ul>"
        sections.append(_section("Unfinished, failed, unreadable", note, content))
    template = resources.files(convpose).joinpath("compare/page.html").read_text("utf-8")
    return string.Template(template).substitute(
        title=escape(comparison.title),
        tiles=_tiles(comparison),
        caption=escape(comparison.caption(comparison.columns, len(comparison.runs))),
        table=_table(comparison),
        note="; ".join(
            [f"{many} in colour, dashed the median of all that finished"] * bool(many)
            + ["dotted: did not finish"] * any(not run.finished for run in comparison.runs)
        ),
        legend=_legend(comparison, range(min(len(comparison.runs), len(COLOURS)))),
        curves=boxes,
        log=" checked" if losses[0]["layout"]["yaxis"]["type"] == "log" else "",
        sections="\n".join(sections),
        footer=f"convpose {convpose.__version__}, {time.strftime('%Y-%m-%d %H:%M')}",
        plotly=get_plotlyjs(),
        charts=json.dumps(charts).replace("<", "\\u003c"),  # no text may end the script
    )


def _box(name: str, chart: Chart) -> str:
    return f'<div id="{name}" style="height:{chart["layout"]["height"]}px"></div>'


def _section(title: str, note: str, content: str) -> str:
    head = f'<div class="head"><h2>{escape(title)}</h2><p>{escape(note)}</p></div>'
    return f"<section>{head}{content}</section>"


def _legend(comparison: Comparison, shown: Iterable[int]) -> str:
    items = (f"<span>{_swatch(i)}{escape(comparison.label(i))}</span>" for i in shown)
    return f'<div class="legend">{"".join(items)}</div>'


def _swatch(i: int) -> str:
    return f'<i style="background:{colour(i)}"></i>'


def _tiles(comparison: Comparison) -> str:
    runs, monitor = comparison.runs, comparison.of_kind("metric")[0]
    complete = sum(run.complete for run in runs)
    tiles = (
        (monitor.texts[0], f"best {monitor.title}: {comparison.label(0)}"),
        (f"{complete} of {len(runs)}", "runs complete"),
        (duration(sum(run.seconds for run in runs)), "of training in all"),
    )
    return "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(words)}</span></div>'
        for value, words in tiles
    )


def _table(comparison: Comparison) -> str:
    every = '<input type="checkbox" id="every" checked aria-label="show all runs">'
    head = "".join(
        f'<th class="{_classes(column)}" title="{escape(column.name)}">'
        f"{every if column.kind == 'run' else ''}{escape(column.title)}</th>"
        for column in comparison.columns
    )
    lines = [f"<thead><tr>{head}</tr></thead><tbody>"]
    for i in range(len(comparison.runs)):
        cells = "".join(_cell(column, i, comparison.monitor) for column in comparison.columns)
        mark = "" if comparison.runs[i].finished else ' class="unfinished"'
        lines.append(f'<tr data-run="{i}"{mark}>{cells}</tr>')
    return "".join([*lines, "</tbody>"])


def _plain_table(table: Table) -> str:
    head, *rows = (
        "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)
        for tag, cells in (("th", table.header), *(("td", row) for row in table.rows))
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    inside = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="scroll"><table>{inside}</table></div>'


def _cell(column: Column, i: int, monitor: str) -> str:
    """Write a cell with its value to sort by; the best metric is bold, the monitor has a bar."""
    value, text, style = column.values[i], escape(column.texts[i]), ""
    classes = _classes(column)
    if column.kind == "run":
        mark = f'<input type="checkbox" checked aria-label="show {text}">'
        text = f"{mark}{_swatch(i)}{text}"
        style = f' title="{escape(str(value))}"'
    elif column.kind == "metric" and value is not None:
        found = [other for other in column.values if other is not None and math.isfinite(other)]
        if found and value == (min if column.metric.less_is_better else max)(found):
            classes += " best"
        if column.name == monitor and found and max(found) > 0 and math.isfinite(value):
            classes += " bar"
            style = f' style="--share:{100 * value / max(found):.0f}%"'
    key = "" if value is None or value != value else escape(str(value))  # NaN is missing too
    return f'<td class="{classes}" data-value="{key}"{style}>{text}</td>'


def _classes(column: Column) -> str:
    return f"{column.kind}{' more' if column.rank is None else ''}"
