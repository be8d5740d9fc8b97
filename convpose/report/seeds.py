"""Runs that differ by their seed only, as one row: mean and deviation."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING

from convpose.report.columns import METRICS, Column
from convpose.report.tables import Table

if TYPE_CHECKING:
    from convpose.report.comparison import Comparison

SHOWN = ("val/pck@0.2", "val/pck@0.1", "val/epe_px", "val/loss")  # after the monitor


def seed_table(comparison: Comparison) -> Table | None:
    """Mean ± sample deviation over the seeds of each setting, best first; None without repeats.

    A setting is what all differing keys but ``seed`` say. Metrics are those of each run's best
    epoch; a run that has none is left out.
    """
    keys = [column for column in comparison.of_kind("key") if column.name != "seed"]
    monitor = next(c for c in comparison.columns if c.name == comparison.monitor)
    settings: dict[tuple[str, ...], list[int]] = {}
    for i, value in enumerate(monitor.values):
        if value is not None:
            settings.setdefault(tuple(key.texts[i] for key in keys), []).append(i)
    if all(len(runs) < 2 for runs in settings.values()):
        return None
    named = {column.name: column for column in comparison.of_kind("metric")}
    metrics = [named[name] for name in dict.fromkeys((monitor.name, *SHOWN)) if name in named]
    sign = -1 if comparison.mode == "max" else 1
    ordered = sorted(settings.items(), key=lambda item: sign * _mean(monitor, item[1]))
    listed = _telling(keys, list(settings))
    rows = [
        [*(texts[n] for n in listed), str(len(runs)), *(_spread(m, runs) for m in metrics)]
        for texts, runs in ordered
    ]
    titles = [*(keys[n].title for n in listed), "seeds", *(metric.title for metric in metrics)]
    caption = "mean ± sample deviation of the best epochs; keys that do not differ are left out"
    return Table(f"{comparison.title}, by setting", titles, rows, caption)


def _telling(keys: Sequence[Column], settings: Sequence[tuple[str, ...]]) -> list[int]:
    """Which keys to list: those of every table, and of the others what tells all settings apart."""
    listed = [n for n, key in enumerate(keys) if key.rank is not None]

    def told_apart(more: int | None = None) -> int:
        chosen = listed if more is None else [*listed, more]
        return len({tuple(texts[n] for n in chosen) for texts in settings})

    while told_apart() < len(settings):
        listed.append(max(range(len(keys)), key=told_apart))
    return sorted(listed)


def _mean(metric: Column, runs: Sequence[int]) -> float:
    return mean(float(metric.values[i]) for i in runs)


def _spread(metric: Column, runs: Sequence[int]) -> str:
    """``61.3 ± 0.4``, with the deviation at the digits of the mean."""
    values = [float(metric.values[i]) for i in runs if metric.values[i] is not None]
    if not values:
        return "–"
    _, show, _ = METRICS.get(metric.name, ("", "{:.4g}".format, False))
    centre = show(mean(values))
    if len(values) == 1:
        return centre
    digits = len(centre.partition(".")[2])
    scale = 100 if "%" in metric.title else 1
    return f"{centre} ± {scale * stdev(values):.{digits}f}"
