"""Compare settings over seeds: mean ± deviation, and the difference to the best with an interval.

A setting is one combination of all differing keys but ``seed``. A run that did not finish is left
out, and so are all but the newest with one seed: a copy would count as another seed. The interval
is Student's over the seeds that two settings share, so that what a seed does to both cancels;
where they share fewer than two, it is Welch's over all their runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev, variance

from convpose.compare.columns import Column
from convpose.compare.comparison import Comparison, left_out
from convpose.config.run_dirs import begun
from convpose.plot.tables import Table

METRICS_SHOWN = ("val/pck@0.2", "val/pck@0.1", "val/epe_px", "val/loss", "test/pck@0.2")
GIVES_WAY = ("val/pck@0.1", "val/loss", "val/epe_px", "test/pck@0.2")  # in a narrow terminal


@dataclass(frozen=True)
class Setting:
    """Holds the runs of one combination of keys.

    Attributes:
        texts: values of the differing keys but ``seed``.
        runs: positions in the comparison, the best first.
    """

    texts: tuple[str, ...]
    runs: list[int]

    def label(self, keys: Sequence[Column]) -> str:
        """Describe the setting by the keys that `settings` returns: ``lr 0.01 · batch_size 32``."""
        pairs = zip(keys, self.texts, strict=True)
        return " · ".join(f"{key.title} {text}" for key, text in pairs) or "all runs"


def settings(comparison: Comparison) -> tuple[list[Column], list[Setting]]:
    """Group the finished runs by setting, best mean first; return the keys that tell them apart.

    Of several runs with the same seed the newest counts. No settings if none has two runs.
    """
    keys = [column for column in comparison.of_kind("key") if column.name != "seed"]
    monitor = comparison.judged
    by_seed: dict[tuple[str, ...], dict[str, int]] = {}
    for i in sorted(range(len(comparison.runs)), key=lambda i: begun(comparison.runs[i].folder)):
        if monitor.values[i] is not None and comparison.runs[i].finished:
            of_setting = by_seed.setdefault(tuple(key.texts[i] for key in keys), {})
            of_setting[_seed(comparison, i)] = i
    found = {texts: sorted(runs.values()) for texts, runs in by_seed.items()}
    if all(len(runs) < 2 for runs in found.values()):
        return [], []
    sign = -1 if comparison.mode == "max" else 1
    ordered = sorted(found.items(), key=lambda item: sign * mean(of_runs(monitor, item[1])))
    listed = _telling_keys(keys, list(found))
    chosen = [Setting(tuple(texts[n] for n in listed), runs) for texts, runs in ordered]
    return [keys[n] for n in listed], chosen


def seed_table(comparison: Comparison, width: int | None = None) -> Table | None:
    """Tabulate mean ± sample deviation over the seeds of each setting, best first.

    Metrics are those of each run's best epoch, as many as fit into `width` letters, or all. None
    if no setting has two runs.
    """
    keys, found = settings(comparison)
    if not found:
        return None
    names = dict.fromkeys((comparison.monitor, *METRICS_SHOWN))
    shown = {
        name: (column.title, *(spread(column, setting.runs) for setting in found))
        for name in names
        if (column := comparison.column(name))
    }
    first = shown.pop(comparison.monitor)
    others = (difference(comparison, setting, found[0]) for setting in found[1:])
    columns = [(k.title, *(s.texts[n] for s in found)) for n, k in enumerate(keys)]
    columns += [("seeds", *(str(len(setting.runs)) for setting in found)), first]
    columns += [("to the best, 95 %", "", *others)]
    for name in GIVES_WAY:
        if width and sum(2 + max(map(len, c)) for c in (*columns, *shown.values())) > width:
            shown.pop(name, None)
    header, *rows = map(list, zip(*columns, *shown.values(), strict=True))
    caption = "mean ± sample deviation of the best epochs; keys that do not differ are left out"
    finished = sum(run.finished for run in comparison.runs)
    if again := finished - sum(len(setting.runs) for setting in found):
        caption += f"; left out, for a newer run has their seed: {again} of {len(comparison.runs)}"
    caption += left_out(comparison)
    return Table(f"{comparison.title}, by setting", header, rows, caption)


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

    monitor = comparison.judged
    ours, theirs = (
        {_seed(comparison, i): monitor.scale * float(monitor.values[i]) for i in setting.runs}
        for setting in (one, other)
    )
    shared = [seed for seed in ours if seed in theirs]
    if len(shared) > 1:
        changes = [ours[seed] - theirs[seed] for seed in shared]
        centre, error = mean(changes), stdev(changes) / math.sqrt(len(changes))
        freedom = len(changes) - 1.0
    else:
        a, b = (of_runs(monitor, s.runs, monitor.scale) for s in (one, other))
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
    scale = comparison.judged.scale
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
    return f"{value:+.1f}" if metric.scale == 100 else f"{value:+.4g}"


def of_runs(metric: Column, runs: Sequence[int], scale: int = 1) -> list[float]:
    """List the values of a metric that runs have."""
    return [scale * float(metric.values[i]) for i in runs if metric.values[i] is not None]


def spread(metric: Column, runs: Sequence[int]) -> str:
    """Write ``61.3 ± 0.4``, the deviation with as many digits as the mean.

    ``61.3 ± 0.4 (2 of 3)`` where not all runs have the metric.
    """
    values = of_runs(metric, runs)
    if not values:
        return "–"
    centre = metric.metric.write(mean(values))
    some = f" ({len(values)} of {len(runs)})" * (len(values) < len(runs))
    if len(values) == 1:
        return centre + some
    digits = len(centre.partition(".")[2])
    return f"{centre} ± {metric.scale * stdev(values):.{digits}f}{some}"


def _seed(comparison: Comparison, i: int) -> str:
    """Read the seed of run `i`, also where it is that of all; a run without one is a seed alone."""
    return str(comparison.runs[i].config.get("seed", f"of run {i}"))


def _telling_keys(keys: Sequence[Column], found: Sequence[tuple[str, ...]]) -> list[int]:
    """Choose keys to list: those of every table, and others until all settings differ."""
    differing = [len({texts[n] for texts in found}) > 1 for n in range(len(keys))]
    listed = [n for n, key in enumerate(keys) if key.rank is not None and differing[n]]

    def distinct_settings(more: int | None = None) -> int:
        chosen = listed if more is None else [*listed, more]
        return len({tuple(texts[n] for n in chosen) for texts in found})

    while distinct_settings() < len(found):
        listed.append(max(range(len(keys)), key=distinct_settings))
    return sorted(listed)
