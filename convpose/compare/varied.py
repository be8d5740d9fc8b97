"""Draw the monitor over the keys that were varied, in Plotly's schema: each alone, and two."""

from collections.abc import Sequence
from html import escape
from statistics import mean, median
from typing import Any

from convpose.compare.charts import GREY, INK, Chart, is_number, layout_of
from convpose.compare.columns import Column
from convpose.compare.comparison import Comparison

MOST_VALUES = 12  # of a key; more were drawn at random, not chosen from a list
WORST_SHOWN = 3  # the colours end at this multiple of the distance from the best to the median
FEWEST_RUNS = 3


def keys_by_effect(comparison: Comparison) -> list[Column]:
    """List the keys of every table but ``seed``, those first that change the monitor most.

    A key changes it by the range of the medians of its values; a key of more than twelve values by
    that of the quarters of its order.
    """
    keys = [key for key in comparison.of_kind("key") if key.rank is not None and key.name != "seed"]

    def change(key: Column) -> float:
        pairs = _pairs(comparison, key)
        values = ordered({value for value, _ in pairs})
        share = max(1.0, len(values) / 4 if len(values) > MOST_VALUES else 1.0)
        groups: dict[int, list[float]] = {}
        for value, result in pairs:
            groups.setdefault(int(values.index(value) / share), []).append(result)
        medians = [median(group) for group in groups.values()]
        return max(medians) - min(medians) if len(medians) > 1 else -1.0

    changes = {key.name: change(key) for key in keys}
    return sorted((k for k in keys if changes[k.name] >= 0), key=lambda k: -changes[k.name])


def marginals(comparison: Comparison) -> list[Chart]:
    """Draw a chart for each varied key: a point a run, and the median of each value.

    Runs that did not finish are open points, and no part of a median.
    """
    if sum(run.finished for run in comparison.runs) < FEWEST_RUNS:
        return []
    charts = []
    for key in keys_by_effect(comparison):
        metric, scale = comparison.judged, comparison.judged.scale
        runs = [i for i, v in enumerate(metric.values) if None not in (v, key.values[i])]
        values = ordered({key.values[i] for i in runs})
        many = len(values) > MOST_VALUES and all(is_number(value) for value in values)
        place = {value: value if many else n for n, value in enumerate(values)}
        ended = [comparison.runs[i].finished for i in runs]
        points = {
            "type": "scatter",
            "mode": "markers",
            "x": [place[key.values[i]] for i in runs],
            "y": [float(f"{scale * metric.values[i]:.4g}") for i in runs],
            "text": [escape(comparison.label(i)) + _mark(comparison, i) for i in runs],
            "marker": {
                "color": GREY,
                "size": 7,
                "symbol": ["circle" if end else "circle-open" for end in ended],
            },
            "hovertemplate": "%{text}<br><b>%{y}</b><extra></extra>",
        }
        groups: dict[Any, list[float]] = {value: [] for value in values}
        for value, result in _pairs(comparison, key):
            groups[value].append(scale * result)
        medians = {place[v]: float(f"{median(g):.4g}") for v, g in groups.items() if g}
        line = {
            "type": "scatter",
            "mode": "lines+markers",
            "x": list(medians),
            "y": list(medians.values()),
            "line": {"color": INK, "width": 1.2},
            "marker": {"symbol": "line-ew-open", "size": 18, "line": {"width": 3}},
            "hovertemplate": "median <b>%{y}</b><extra></extra>",
        }
        layout = layout_of(280, escape(key.title), metric.title)
        layout["xaxis"] |= (
            {"type": "log" if min(values) > 0 and max(values) > 10 * min(values) else "linear"}
            if many
            else _ticks(key, values)
        )
        charts.append({"data": [points] if many else [points, line], "layout": layout})
    return charts


def heat(comparison: Comparison) -> Chart | None:
    """Draw the mean over the two keys that change it most; bright is good.

    A cell without a run is empty. None where two keys with two to twelve values each are missing.
    """
    keys = [key for key in keys_by_effect(comparison) if len(set(key.values)) <= MOST_VALUES]
    if len(keys) < 2:
        return None
    x, y = keys[:2]
    metric, scale = comparison.judged, comparison.judged.scale
    show, less = metric.metric.write, metric.metric.less_is_better
    columns, rows, cells = mean_cells(comparison, x, y, metric)
    found = [value for row in cells for value in row if value is not None]
    low, high = colour_range(found, less)
    trace = {
        "type": "heatmap",
        "x": list(range(len(columns))),
        "y": list(range(len(rows))),
        "z": [[None if v is None else scale * v for v in row] for row in cells],
        "text": [["" if v is None else show(v) for v in row] for row in cells],
        "texttemplate": "%{text}",
        "colorscale": "Cividis",
        "reversescale": less,
        "zmin": scale * low,
        "zmax": scale * high,
        "xgap": 2,
        "ygap": 2,
        "colorbar": {"title": {"text": metric.title}, "thickness": 12},
        "hovertemplate": "<b>%{text}</b><extra></extra>",
    }
    layout = layout_of(max(280, 90 + 34 * len(rows)), escape(x.title), escape(y.title))
    layout["xaxis"] |= _ticks(x, columns)
    layout["yaxis"] |= _ticks(y, rows)
    return {"data": [trace], "layout": layout}


def mean_cells(
    comparison: Comparison, x: Column, y: Column, metric: Column
) -> tuple[list[Any], list[Any], list[list[float | None]]]:
    """Average a metric over the finished runs of each pair of values.

    Returns:
        Values of `x`, values of `y`, and a row of means for each value of `y`; None where no
        finished run has the pair.
    """
    found: dict[tuple[Any, Any], list[float]] = {}
    for run, row in zip(
        comparison.runs, zip(x.values, y.values, metric.values, strict=True), strict=True
    ):
        if run.finished and None not in row:
            found.setdefault((row[0], row[1]), []).append(row[2])
    columns, rows = (ordered({pair[i] for pair in found}) for i in (0, 1))
    cells = [[mean(found[a, b]) if (a, b) in found else None for a in columns] for b in rows]
    return columns, rows, cells


def colour_range(values: Sequence[float], less: bool) -> tuple[float, float]:
    """Return the ends of the colours: much worse runs share one, so that good ones stay apart."""
    worst, best = sorted((min(values), max(values)), reverse=less)
    span = WORST_SHOWN * abs(median(values) - best)
    return (best, min(best + span, worst)) if less else (max(best - span, worst), best)


def ordered(values: set[Any]) -> list[Any]:
    """Sort numbers by size, words after them."""
    return sorted(values, key=lambda v: (not is_number(v), v if is_number(v) else str(v)))


def _mark(comparison: Comparison, i: int) -> str:
    return "" if comparison.runs[i].finished else "<br>" + escape(comparison.runs[i].state)


def _ticks(key: Column, values: Sequence[Any]) -> dict[str, Any]:
    """Write each value of a key as the table does, at 0, 1, 2 and so on."""
    texts = dict(zip(key.values, key.texts, strict=True))
    ticks = [escape(texts[value]) for value in values]
    return {
        "tickvals": list(range(len(values))),
        "ticktext": ticks,
        "range": [-0.5, len(values) - 0.5],
    }


def _pairs(comparison: Comparison, key: Column) -> list[tuple[Any, float]]:
    """List the value and the result of each finished run."""
    rows = zip(comparison.runs, key.values, comparison.judged.values, strict=True)
    return [
        (value, result)
        for run, value, result in rows
        if run.finished and None not in (value, result)
    ]
