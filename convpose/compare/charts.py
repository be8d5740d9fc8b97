"""Draw a comparison as plain dicts in Plotly's schema: curves, joints, parallel axes."""

import math
from collections.abc import Sequence
from html import escape
from statistics import mean, median, stdev
from textwrap import wrap
from typing import Any

from convpose.compare.columns import Column
from convpose.compare.comparison import Comparison
from convpose.compare.settings import curve, of_runs, settings
from convpose.plot.tables import metric_of

COLOURS = ("#1f83d6", "#f0801a", "#2a9d6f", "#c8437a", "#7a5cc2", "#b08900", "#17a2b0", "#8a5a3c")
GREY = "#aab1bc"  # of all runs after the best ones
INK, GRID = "#22262e", "#e6e7ea"
MEDIAN = {"color": INK, "width": 2.2, "dash": "dash"}
FONT = "system-ui, Segoe UI, Roboto, Arial, sans-serif"
CURVES_AND_SCALES = (("train/loss", 1), ("val/loss", 1), ("val/pck@0.2", 100))
LOG_FROM_RATIO = 30  # largest to smallest loss, from which on the axis is logarithmic
LABEL_WIDTH = 44  # letters of a line
TICK_DISTANCE = 0.07  # share of an axis; closer texts would touch
Chart = dict[str, Any]


def curves(comparison: Comparison) -> tuple[list[Chart], Chart]:
    """Draw the losses, and PCK@0.2, over the epochs; trace `i` is run `i`.

    Where there are more runs than colours, the last trace is the median of those that finished.
    """
    charts: list[Chart] = []
    for name, scale in CURVES_AND_SCALES:
        traces = []
        for i, run in enumerate(comparison.runs):
            rows = [row for row in run.rows if math.isfinite(row.get(name, math.nan))]
            line = _line(comparison, i) | {
                "mode": "lines" if len(rows) > 1 else "markers",
                "x": [int(row["epoch"]) + 1 for row in rows],
                "y": [float(f"{scale * row[name]:.4g}") for row in rows],
                "hovertemplate": "%{fullData.name}<br>epoch %{x}: <b>%{y}</b><extra></extra>",
            }
            traces.append(line)
        if len(comparison.runs) > len(COLOURS):
            traces += _median(comparison, name, scale)
        title = {
            "text": metric_of(name).title if scale > 1 else name,
            "x": 0.01,
            "font": {"size": 14},
        }
        layout = layout_of(300, "epoch", top=36) | {"title": title}
        charts.append({"data": traces, "layout": layout})
    losses = charts[:2]
    spans = [_decades([y for trace in chart["data"] for y in trace["y"]]) for chart in losses]
    for chart in losses:
        kind = "log" if max(spans) > math.log10(LOG_FROM_RATIO) else "linear"
        chart["layout"]["yaxis"] |= {"type": kind}
    return losses, charts[2]


def _median(comparison: Comparison, name: str, scale: int) -> list[Chart]:
    """Draw the median of the finished runs, at each epoch that half of them have."""
    values: dict[int, list[float]] = {}
    finished = [run for run in comparison.runs if run.finished]
    for row in (row for run in finished for row in run.rows):
        if math.isfinite(value := row.get(name, math.nan)):
            values.setdefault(int(row["epoch"]) + 1, []).append(scale * value)
    epochs = [epoch for epoch in sorted(values) if 2 * len(values[epoch]) >= len(finished)]
    line: Chart = {"type": "scatter", "mode": "lines", "meta": {"run": None}, "zorder": 2}
    line |= {"x": epochs, "y": [float(f"{median(values[epoch]):.4g}") for epoch in epochs]}
    line |= {"name": f"median of {len(finished)} runs", "line": MEDIAN}
    line["hovertemplate"] = "%{fullData.name}<br>epoch %{x}: <b>%{y}</b><extra></extra>"
    return [line] * bool(epochs)


def over_seeds(comparison: Comparison) -> list[Chart]:
    """Draw the settings over seeds: mean curves with a band, best epochs with error bars.

    Bands and bars are the sample deviation. None where no setting has two runs.
    """
    keys, found = settings(comparison)
    if not found:
        return []
    metric = comparison.judged
    lines: list[Chart] = []
    points: list[Chart] = []
    for n, setting in enumerate(found[: len(COLOURS)]):
        name = "<br>".join(map(escape, wrap(setting.label(keys), LABEL_WIDTH)))
        epochs, centre, spread = curve(comparison, setting)
        upper = [a + b for a, b in zip(centre, spread, strict=True)]
        lower = [a - b for a, b in zip(centre, spread, strict=True)]
        band: Chart = {"x": [*epochs, *epochs[::-1]], "y": [*upper, *lower[::-1]], "fill": "toself"}
        band |= {"type": "scatter", "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
        line = {"type": "scatter", "mode": "lines", "x": epochs, "y": centre, "name": name}
        lines += [
            band | {"fillcolor": colour(n), "opacity": 0.12},
            line | {"line": {"color": colour(n), "width": 2.2}},
        ]
        best = of_runs(metric, setting.runs, metric.scale)
        points.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [mean(best)],
                "y": [name],
                "error_x": {"type": "data", "array": [stdev(best) if len(best) > 1 else 0.0]},
                "marker": {"color": colour(n), "size": 9},
                "hovertemplate": f"%{{y}}: <b>%{{x:.4g}}</b>, {len(best)} seeds<extra></extra>",
            }
        )
    best_epochs = layout_of(300, f"{metric.title}, best epoch")
    best_epochs["yaxis"]["autorange"] = "reversed"
    return [
        {"data": lines, "layout": layout_of(300, "epoch", metric.title)},
        {"data": points, "layout": best_epochs},
    ]


def joints(comparison: Comparison) -> dict[str, Chart]:
    """Draw PCK@0.2 of each joint as bars of the best runs, by subset: ``val`` and evaluations."""
    charts: dict[str, Chart] = {}
    for i, run in enumerate(comparison.runs):
        best = run.best(comparison.monitor, comparison.mode).items()
        val = {k[6:]: v for k, v in best if k.startswith("joint/") and math.isfinite(v)}
        for subset, measured in {**run.evaluations, **({"val": val} if val else {})}.items():
            layout = layout_of(330, y="PCK@0.2 %") | {"barmode": "group", "bargap": 0.25}
            layout["yaxis"]["rangemode"] = "tozero"
            chart = charts.setdefault(subset, {"data": [], "layout": layout})
            if measured and len(chart["data"]) < len(COLOURS):
                chart["data"].append(
                    {
                        "type": "bar",
                        "x": [name.replace("_", " ") for name in measured],
                        "y": [round(100 * value, 1) for value in measured.values()],
                        "name": escape(comparison.label(i)),
                        "meta": {"run": i},
                        "marker": {"color": colour(i)},
                        "hovertemplate": "%{fullData.name}<br>%{x}: <b>%{y} %</b><extra></extra>",
                    }
                )
    filled = {subset: chart for subset, chart in charts.items() if chart["data"]}
    return dict(sorted(filled.items(), key=lambda item: item[0] != "val"))


def parallel(comparison: Comparison) -> Chart | None:
    """Draw every run as a line through axes: differing keys, parameters, time and metrics.

    Plain lines, because Plotly's ``parcoords`` needs WebGL and a page that may evaluate text as
    code. None if there are no two axes in which runs differ.
    """
    facts = [c for c in comparison.of_kind("fact") if c.name in ("seconds", "parameters")]
    keys = [c for c in comparison.of_kind("key") if c.rank is not None]
    metrics = [c for c in comparison.of_kind("metric") if c.rank is not None]
    columns = [*keys, *facts, *metrics[::-1]]
    axes = [(column, axis) for column in columns if (axis := _axis(column))]
    if len(axes) < 2:
        return None
    layout = layout_of(400, top=50) | {"shapes": [], "annotations": [], "dragmode": "select"}
    layout["xaxis"] = {"range": [-0.5, len(axes) - 0.7], "visible": False, "fixedrange": True}
    layout["yaxis"] = {"range": [-0.05, 1.05], "visible": False, "fixedrange": True}
    for x, (column, (_, ticks)) in enumerate(axes):
        rule = {"color": GRID, "width": 1.5}
        layout["shapes"].append(
            {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": rule, "layer": "below"}
        )
        text = {"x": x, "showarrow": False, "font": {"size": 11}}
        title = {"text": f"<b>{escape(column.title)}</b>", "y": 1, "yshift": 24}
        layout["annotations"].append(text | title)
        for y, tick in ticks.items():
            position = {
                "y": y,
                "xanchor": "right",
                "xshift": -7,
                "bgcolor": "rgba(255,255,255,0.8)",
            }
            layout["annotations"].append(text | position | {"text": escape(tick)})
    traces = [
        _line(comparison, i)
        | {
            "mode": "lines+markers",
            "marker": {"size": 6},
            "x": list(range(len(axes))),
            "y": [positions[i] for _, (positions, _) in axes],
            "text": [f"{escape(c.title)}: <b>{escape(c.texts[i])}</b>" for c, _ in axes],
            "hovertemplate": "%{fullData.name}<br>%{text}<extra></extra>",
        }
        for i in range(len(comparison.runs))
    ]
    return {"data": traces, "layout": layout}


def colour(i: int) -> str:
    """Return the line colour of run `i`; grey beyond the first eight."""
    return COLOURS[i] if i < len(COLOURS) else GREY


def _axis(column: Column) -> tuple[list[float], dict[float, str]] | None:
    """Place the runs on an axis from 0 to 1: a position for each, and ticks with their texts.

    Numbers that span more than a decade are on a logarithmic scale, words in order of appearance.
    An axis on which less is better points down, so that good runs end high. None if all runs have
    the same value, or one lacks a number.
    """
    known = [value for value in column.values if is_number(value)]
    if len(known) == len(column.values):
        scale = math.log10 if min(known) > 0 and _decades(known) > 1 else float
        positions = [scale(value) for value in known]
    elif column.kind == "key":
        words = list(dict.fromkeys(column.texts))
        positions = [float(words.index(text)) for text in column.texts]
    else:
        return None
    low, span = min(positions), max(positions) - min(positions)
    if span == 0:
        return None
    less = column.name == "seconds" or column.metric.less_is_better
    positions = [(position - low) / span for position in positions]
    positions = [1 - position for position in positions] if less else positions
    texts = dict(sorted(zip(positions, column.texts, strict=True)))
    ticks = {end: texts[end] for end in (0.0, 1.0)}
    for position, text in texts.items():
        if all(abs(position - other) >= TICK_DISTANCE for other in ticks):
            ticks[position] = text
    return positions, ticks


def is_number(value: Any) -> bool:
    """Tell a finite number from a word, a truth value and what is missing."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _decades(values: Sequence[float]) -> float:
    positive = [value for value in values if value > 0]
    return math.log10(max(positive) / min(positive)) if positive else 0.0


def _line(comparison: Comparison, i: int) -> Chart:
    """Style the line of run `i`: the best are thick and on top, dotted where it did not finish.

    The page's script reads `meta`.
    """
    width, opacity, order = (2.2, 1.0, 1) if i < len(COLOURS) else (1.2, 0.5, 0)
    return {
        "type": "scatter",
        "name": escape(comparison.label(i)),
        "line": {"color": colour(i), "width": width}
        | ({} if comparison.runs[i].finished else {"dash": "dot"}),
        "opacity": opacity,
        "zorder": order,
        "uid": f"run-{i}",
        "meta": {"run": i},
    }


def layout_of(height: int, x: str = "", y: str = "", top: int = 10) -> Chart:
    """Return the layout that all charts share; titles of the axes, `height` and `top` in pixels."""
    grid = {"gridcolor": GRID, "zeroline": False, "linecolor": GRID, "automargin": True}
    across, down = ({"title": {"text": text}} if text else {} for text in (x, y))
    return {
        "height": height,
        "margin": {"l": 50, "r": 10, "t": top, "b": 36},
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": grid | across,
        "yaxis": grid | down,
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
    }
