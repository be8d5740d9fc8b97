"""Compare settings over seeds: mean ± deviation, and the difference to the best with an interval.

A setting is one combination of all differing keys but ``seed``. A run that did not finish is left
out. The interval is Student's over the seeds that two settings share, so that what a seed does to
both cancels; where they share fewer than two, it is Welch's over all their runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev, variance

from convpose.compare.columns import METRICS, Column
from convpose.compare.comparison import Comparison, left_out
from convpose.plot.tables import Table

METRICS_SHOWN = ("val/pck@0.2", "val/pck@0.1", "val/epe_px", "val/loss", "test/pck@0.2")


@dataclass(frozen=True)
class Setting:
    """Holds the runs of one combination of keys.

    Attributes:
        texts: values of the differing keys but ``seed``.
        runs: positions in the comparison, the best first.
    """

    texts: tuple[str, ...]
    runs: list[int]


def settings(comparison: Comparison) -> tuple[list[Column], list[Setting]]:
    """Group the finished runs by setting, best mean first; return the keys that tell them apart.

    No settings if none has two runs.
    """
    keys = [column for column in comparison.of_kind("key") if column.name != "seed"]
    monitor = _monitor(comparison)
    found: dict[tuple[str, ...], list[int]] = {}
    for i, value in enumerate(monitor.values):
        if value is not None and comparison.runs[i].finished:
            found.setdefault(tuple(key.texts[i] for key in keys), []).append(i)
    if all(len(runs) < 2 for runs in found.values()):
        return [], []
    sign = -1 if comparison.mode == "max" else 1
    ordered = sorted(found.items(), key=lambda item: sign * mean(of_runs(monitor, item[1])))
    listed = _telling_keys(keys, list(found))
    chosen = [Setting(tuple(texts[n] for n in listed), runs) for texts, runs in ordered]
    return [keys[n] for n in listed], chosen


def seed_table(comparison: Comparison) -> Table | None:
    """Tabulate mean ± sample deviation over the seeds of each setting, best first.

    Metrics are those of each run's best epoch. None if no setting has two runs.
    """
    keys, found = settings(comparison)
    if not found:
        return None
    names = dict.fromkeys((comparison.monitor, *METRICS_SHOWN))
    metrics = [column for name in names if (column := comparison.column(name))]
    rows = [
        [
            *setting.texts,
            str(len(setting.runs)),
            spread(metrics[0], setting.runs),
            "" if n == 0 else difference(comparison, setting, found[0]),
            *(spread(metric, setting.runs) for metric in metrics[1:]),
        ]
        for n, setting in enumerate(found)
    ]
    first, *others = (metric.title for metric in metrics)
    titles = [*(key.title for key in keys), "seeds", first, "to the best, 95 %", *others]
    caption = "mean ± sample deviation of the best epochs; keys that do not differ are left out"
    caption += left_out(comparison)
    return Table(f"{comparison.title}, by setting", titles, rows, caption)


def to_markdown(comparison: Comparison) -> str:
    """Write the tables of all runs and of settings over seeds, then the problems."""
    tables = filter(None, (comparison.table(), seed_table(comparison)))
    listed = "".join(f"- `{path}`: {reason}\n" for path, reason in comparison.problems)
    return "\n".join([*(table.to_markdown() for table in tables), *([listed] * bool(listed))])


def difference(comparison: Comparison, one: Setting, other: Setting) -> str:
    """Write the mean difference of the monitor between settings: ``−2.1 [−3.0, −1.2]``.

    Without an interval where a setting has one run.
    """
    from scipy import stats  # late: a table without seeds does not wait for it

    monitor, seeds = _monitor(comparison), comparison.column("seed")
    scale = 100 if "%" in monitor.title else 1
    ours, theirs = (
        {seeds.texts[i] if seeds else str(i): scale * float(monitor.values[i]) for i in s.runs}
        for s in (one, other)
    )
    shared = [seed for seed in ours if seed in theirs]
    paired = len(shared) > 1 and len(ours) == len(one.runs) and len(theirs) == len(other.runs)
    if paired:
        changes = [ours[seed] - theirs[seed] for seed in shared]
        centre, error = mean(changes), stdev(changes) / math.sqrt(len(changes))
        freedom = len(changes) - 1.0
    else:
        a, b = ([scale * x for x in of_runs(monitor, s.runs)] for s in (one, other))
        centre = mean(a) - mean(b)
        if min(len(a), len(b)) < 2:
            return signed(centre, monitor)
        shares = [variance(x) / len(x) for x in (a, b)]
        error = math.sqrt(sum(shares))
        below = sum(s**2 / (len(x) - 1) for s, x in zip(shares, (a, b), strict=True))
        freedom = error**4 / below if below else 1.0
    half = float(stats.t.ppf(0.975, freedom)) * error
    ends = (signed(centre + sign * half, monitor) for sign in (-1, 1))
    return f"{signed(centre, monitor)} [{', '.join(ends)}]"


def curve(comparison: Comparison, setting: Setting) -> tuple[list[int], list[float], list[float]]:
    """Return epochs from 1, and mean and sample deviation of the monitor over a setting's runs.

    The deviation is 0 at an epoch that one run has.
    """
    scale = 100 if "%" in _monitor(comparison).title else 1
    values: dict[int, list[float]] = {}
    for row in (row for i in setting.runs for row in comparison.runs[i].rows):
        value = scale * row.get(comparison.monitor, math.nan)
        if math.isfinite(value):
            values.setdefault(int(row["epoch"]) + 1, []).append(value)
    epochs = sorted(values)
    deviations = [stdev(values[e]) if len(values[e]) > 1 else 0.0 for e in epochs]
    return epochs, [mean(values[e]) for e in epochs], deviations


def signed(value: float, metric: Column) -> str:
    """Write a difference of a metric in the unit of its table, with its sign."""
    return f"{value:+.1f}" if "%" in metric.title else f"{value:+.4g}"


def _monitor(comparison: Comparison) -> Column:
    return next(c for c in comparison.columns if c.name == comparison.monitor)


def of_runs(metric: Column, runs: Sequence[int]) -> list[float]:
    """List the values of a metric that runs have."""
    return [float(metric.values[i]) for i in runs if metric.values[i] is not None]


def spread(metric: Column, runs: Sequence[int]) -> str:
    """Write ``61.3 ± 0.4``, the deviation with as many digits as the mean."""
    values = of_runs(metric, runs)
    if not values:
        return "–"
    _, show, _ = METRICS.get(metric.name, ("", "{:.4g}".format, False))
    centre = show(mean(values))
    if len(values) == 1:
        return centre
    digits = len(centre.partition(".")[2])
    scale = 100 if "%" in metric.title else 1
    return f"{centre} ± {scale * stdev(values):.{digits}f}"


def _telling_keys(keys: Sequence[Column], found: Sequence[tuple[str, ...]]) -> list[int]:
    """Choose keys to list: those of every table, and others until all settings differ."""
    listed = [n for n, key in enumerate(keys) if key.rank is not None]

    def distinct_settings(more: int | None = None) -> int:
        chosen = listed if more is None else [*listed, more]
        return len({tuple(texts[n] for n in chosen) for texts in found})

    while distinct_settings() < len(found):
        listed.append(max(range(len(keys)), key=distinct_settings))
    return sorted(listed)
