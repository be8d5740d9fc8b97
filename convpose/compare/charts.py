"""The charts of a comparison, as plain dicts in Plotly's schema: curves, joints, parallel axes."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from convpose.compare.columns import METRICS, Column
from convpose.compare.comparison import Comparison

COLOURS = ("#1f83d6", "#f0801a", "#2a9d6f", "#c8437a", "#7a5cc2", "#b08900", "#17a2b0", "#8a5a3c")
OTHER = "#aab1bc"  # of the runs that are not among the best
INK, GRID = "#22262e", "#e6e7ea"
FONT = "system-ui, Segoe UI, Roboto, Arial, sans-serif"
CURVES = (("train/loss", 1), ("val/loss", 1), ("val/pck@0.2", 100))
LOG_FROM = 30  # ratio of losses from which on their axis is logarithmic
BETWEEN_TICKS = 0.07  # of an axis, so that their texts do not touch
Chart = dict[str, Any]


def curves(comparison: Comparison) -> tuple[list[Chart], Chart]:
    """Losses of training and validation, and PCK@0.2, over the epochs; trace i is run i."""
    charts: list[Chart] = []
    for name, scale in CURVES:
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
        title = {"text": METRICS[name][0] if scale > 1 else name, "x": 0.01, "font": {"size": 14}}
        layout = _layout(300, top=36) | {"title": title}
        layout["xaxis"] |= {"title": {"text": "epoch"}}
        charts.append({"data": traces, "layout": layout})
    losses = charts[:2]
    spans = [_decades([y for trace in chart["data"] for y in trace["y"]]) for chart in losses]
    for chart in losses:
        chart["layout"]["yaxis"]["type"] = "log" if max(spans) > math.log10(LOG_FROM) else "linear"
    return losses, charts[2]


def joints(comparison: Comparison) -> dict[str, Chart]:
    """PCK@0.2 of each joint as bars of the best runs, by split: validation, evaluations."""
    charts: dict[str, Chart] = {}
    for i, run in enumerate(comparison.runs):
        best = run.best(comparison.monitor, comparison.mode).items()
        own = {k[6:]: v for k, v in best if k.startswith("joint/") and math.isfinite(v)}
        for split, measured in {**run.evaluations, **({"val": own} if own else {})}.items():
            layout = _layout(330) | {"barmode": "group", "bargap": 0.25}
            layout["yaxis"] |= {"rangemode": "tozero", "title": {"text": "PCK@0.2 %"}}
            chart = charts.setdefault(split, {"data": [], "layout": layout})
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
    filled = {split: chart for split, chart in charts.items() if chart["data"]}
    return dict(sorted(filled.items(), key=lambda item: item[0] != "val"))


def parallel(comparison: Comparison) -> Chart | None:
    """Every run as a line through axes: its differing keys, parameters, time and metrics.

    Lines, not Plotly's ``parcoords``: that needs WebGL, and a policy that lets text become code.
    None if there are no two axes in which runs differ.
    """
    facts = [c for c in comparison.of_kind("fact") if c.name in ("seconds", "parameters")]
    keys = [c for c in comparison.of_kind("key") if c.rank is not None]
    metrics = [c for c in comparison.of_kind("metric") if c.rank is not None]
    columns = [*keys, *facts, *metrics[::-1]]
    axes = [(column, axis) for column in columns if (axis := _axis(column))]
    if len(axes) < 2:
        return None
    layout = _layout(400, top=50) | {"shapes": [], "annotations": [], "dragmode": "select"}
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
            place = {"y": y, "xanchor": "right", "xshift": -7, "bgcolor": "rgba(255,255,255,0.8)"}
            layout["annotations"].append(text | place | {"text": escape(tick)})
    traces = [
        _line(comparison, i)
        | {
            "mode": "lines+markers",
            "marker": {"size": 6},
            "x": list(range(len(axes))),
            "y": [places[i] for _, (places, _) in axes],
            "text": [f"{escape(c.title)}: <b>{escape(c.texts[i])}</b>" for c, _ in axes],
            "hovertemplate": "%{fullData.name}<br>%{text}<extra></extra>",
        }
        for i in range(len(comparison.runs))
    ]
    return {"data": traces, "layout": layout}


def colour(i: int) -> str:
    """Of the run in row i."""
    return COLOURS[i] if i < len(COLOURS) else OTHER


def _axis(column: Column) -> tuple[list[float], dict[float, str]] | None:
    """Where each run is, and ticks, from 0 to 1; None if it tells nothing or runs have no number.

    Numbers that span more than a decade are on a logarithmic scale, words in order of appearance.
    What is better when it is less points down, so that good runs end high.
    """
    known = [value for value in column.values if _is_number(value)]
    if len(known) == len(column.values):
        scale = math.log10 if min(known) > 0 and _decades(known) > 1 else float
        places = [scale(value) for value in known]
    elif column.kind == "key":
        words = list(dict.fromkeys(column.texts))
        places = [float(words.index(text)) for text in column.texts]
    else:
        return None
    low, span = min(places), max(places) - min(places)
    if span == 0:
        return None
    less = column.name == "seconds" or (column.name in METRICS and METRICS[column.name][2])
    places = [(place - low) / span for place in places]
    places = [1 - place for place in places] if less else places
    texts = dict(sorted(zip(places, column.texts, strict=True)))
    ticks = {end: texts[end] for end in (0.0, 1.0)}
    for place, text in texts.items():
        if all(abs(place - other) >= BETWEEN_TICKS for other in ticks):
            ticks[place] = text
    return places, ticks


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _decades(values: Sequence[float]) -> float:
    positive = [value for value in values if value > 0]
    return math.log10(max(positive) / min(positive)) if positive else 0.0


def _line(comparison: Comparison, i: int) -> Chart:
    """The look of a run: the best are thick and on top; the page's script finds it by number."""
    width, opacity, order = (2.2, 1.0, 1) if i < len(COLOURS) else (1.2, 0.5, 0)
    return {
        "type": "scatter",
        "name": escape(comparison.label(i)),
        "line": {"color": colour(i), "width": width},
        "opacity": opacity,
        "zorder": order,
        "uid": f"run-{i}",
        "meta": {"run": i},
    }


def _layout(height: int, top: int = 10) -> Chart:
    grid = {"gridcolor": GRID, "zeroline": False, "linecolor": GRID, "automargin": True}
    return {
        "height": height,
        "margin": {"l": 50, "r": 10, "t": top, "b": 36},
        "font": {"family": FONT, "size": 12, "color": INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": dict(grid),
        "yaxis": dict(grid),
        "showlegend": False,
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
    }
