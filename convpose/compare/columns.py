"""Make the columns of a comparison: keys that differ, metrics of the best epoch, facts."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from convpose.compare.run_result import RunResult
from convpose.config.run_dirs import short_titles
from convpose.history import Row
from convpose.plot.tables import METRICS, Metric, metric_of
from convpose.run import Value

MOST_KEYS = 6  # differing keys in a terminal's table; the files list all
RARE = 1 / 8  # of the runs; a key that fewer have changed is shown where it tells runs apart
TITLES = {"seconds": "time", "images_per_s": "images/s"}
# columns of a terminal beside the monitor and the first keys; the highest rank gives way first
RANKS = {"state": 2, "val/pck@0.2": 2, "val/epe_px": 3, "parameters": 3, "seconds": 4}
RANKS |= {"test/pck@0.2": 1, "best_epoch": 5, "val/auc": 6, "val/loss": 7, "epochs": 8}


@dataclass(frozen=True)
class Column:
    """Holds one value of every run.

    Attributes:
        name: as the CSV has it: a config key in full, a metric or a fact.
        title: its heading in a table.
        values: one a run; None where a run has none.
        texts: the values as a table shows them.
        kind: ``run``, ``key``, ``metric`` or ``fact``.
        rank: 0 in every table, higher ranks where there is room; None in the files alone.
    """

    name: str
    title: str
    values: Sequence[Any]
    texts: Sequence[str]
    kind: str
    rank: int | None = 0

    @property
    def metric(self) -> Metric:
        """Look up how the values of a metric are shown."""
        return metric_of(self.name)

    @property
    def scale(self) -> int:
        """Return 100 for a metric that is shown in percent, else 1."""
        return 100 if self.metric.unit == "%" else 1

    @property
    def width(self) -> int:
        """Count the letters that the column needs in a terminal."""
        return 2 + max(map(len, (self.title, *self.texts)))


def make_columns(
    runs: Sequence[RunResult], names: Sequence[str], best: Sequence[Row], monitor: str
) -> tuple[list[Column], list[str]]:
    """Make all columns, and list the keys that follow from other keys, see `differences`.

    Args:
        runs: in the order of the rows.
        names: of the runs.
        best: the row of each run's best epoch.
        monitor: the metric that follows the name.
    """
    keys, implied = _keys(runs)
    first = Column("run", "run", names, abbreviate(names), "run")
    leading, *others = _metrics(best, monitor)
    return [first, leading, *keys, *others, *_facts(runs, best)], implied


def _keys(runs: Sequence[RunResult]) -> tuple[list[Column], list[str]]:
    by_choice = all(run.facts.get("choices") for run in runs)
    configs = [run.flat(by_choice) for run in runs]
    overridden = {key for run in runs for key in run.overridden}
    leading, implied = differences(configs, overridden, by_choice)
    titles = dict(zip(leading, short_titles(leading), strict=True))
    shown = _telling({key: [c.get(key, ABSENT) for c in configs] for key in leading})[:MOST_KEYS]
    columns = []
    for key in (*leading, *implied):
        found = [config.get(key, ABSENT) for config in configs]
        values = ["null" if v is None else None if v == ABSENT else v for v in found]
        texts = [ABSENT if value is None else plain_text(value) for value in values]
        rank = shown.index(key) if key in shown else None
        columns.append(Column(key, titles.get(key, key), values, texts, "key", rank))
    return columns, implied


def _telling(values: Mapping[str, Sequence[Value]]) -> list[str]:
    """Choose the keys of a table: one run of another kind among many must not add ten columns."""
    runs = len(next(iter(values.values()), ()))
    rare = {key for key, of in values.items() if runs - max(map(of.count, of)) < RARE * runs}
    chosen = [key for key in values if key not in rare]

    def distinct(keys: Sequence[str]) -> int:
        return len(set(zip(*(values[key] for key in keys), strict=True)))

    for key in values:
        if key in rare and distinct([*chosen, key]) > distinct(chosen):
            chosen.append(key)
    return [key for key in values if key in chosen]


def _metrics(best: Sequence[Row], monitor: str) -> list[Column]:
    """Make the columns of the monitor, and of all other validation and test metrics of a run."""
    columns = []
    for name in dict.fromkeys((monitor, *METRICS, *(k for row in best for k in row))):
        values = [row.get(name) for row in best]
        if name.startswith(("val/", "test/")) and any(value is not None for value in values):
            metric = metric_of(name)
            texts = [ABSENT if value is None else metric.write(value) for value in values]
            rank = 0 if name == monitor else RANKS.get(name)
            columns.append(Column(name, metric.title, values, texts, "metric", rank))
    return columns


def _facts(runs: Sequence[RunResult], best: Sequence[Row]) -> list[Column]:
    def fact(name: str, values: Sequence[Any], show: Callable[[Any], str] = str) -> Column:
        texts = [ABSENT if value is None else show(value) for value in values]
        same = name in ("parameters", "state") and len(set(values)) == 1
        rank = None if same else RANKS.get(name)
        return Column(name, TITLES.get(name, name.replace("_", " ")), values, texts, "fact", rank)

    return [
        fact("best_epoch", [int(row["epoch"]) + 1 if row else None for row in best]),
        fact("epochs", [len(run.rows) for run in runs]),
        fact("seconds", [round(run.seconds, 1) for run in runs], duration),
        fact("images_per_s", [round(run.images_per_s, 1) for run in runs], "{:.0f}".format),
        fact("parameters", [run.parameters for run in runs], lambda count: f"{count / 1e6:.3g} M"),
        fact("state", [run.state for run in runs], lambda state: state.split()[0].strip(":")),
        *(
            fact(name, [run.facts.get(name) for run in runs])
            for name in ("started", "revision", "hardware")
        ),
    ]


def duration(seconds: float) -> str:
    """Write seconds as ``45 s``, ``3 min 18 s`` or ``2 h 05 min``."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def plain_text(value: Any) -> str:
    """Write a value of a key; a number as short as it can be."""
    return f"{value:g}" if isinstance(value, float) else str(value)


ABSENT = "–"  # the value of a key that a configuration lacks


def differences(
    configs: Sequence[Mapping[str, Value]], overridden: Collection[str], by_choice: bool
) -> tuple[list[str], list[str]]:
    """List the keys that differ between runs; separately those that follow from others.

    A key of a group (``augment.shift``) follows from the group's choice if equal choices always
    have equal values of it. Where groups go by their class, which says less than their yaml, it
    must also be a key that some classes lack. A text that always equals another key's, as
    ``${monitor}`` does, follows too. A key that a command line has set never follows.

    Args:
        configs: of the runs, as `convpose.run.flat` returns them.
        overridden: keys that the command line of a run has set.
        by_choice: groups go by the name of the chosen yaml, not by their class.

    Returns:
        The leading keys, then those that follow from them.
    """
    values = {
        key: [config.get(key, ABSENT) for config in configs]
        for key in dict.fromkeys(key for config in configs for key in config)
    }
    differing = {key: column for key, column in values.items() if len(set(column)) > 1}
    leading: list[str] = []
    for key, column in differing.items():
        group = key.partition(".")[0]
        if key in overridden:
            leading.append(key)
        elif group != key and group in differing and (by_choice or ABSENT in column):
            choices = differing[group]
            if len(set(zip(choices, column, strict=True))) > len(set(choices)):
                leading.append(key)
        elif not (_all_text(column) and column in [differing[k] for k in leading]):
            leading.append(key)
    return leading, [key for key in differing if key not in leading]


def abbreviate(names: Sequence[str]) -> list[str]:
    """Shorten run names to the words in which they differ.

    ``2026-11-22_11-18-28_002_optimizer.lr-1`` becomes ``…_002``: words that all names begin with
    become an ellipsis, and words that are not needed to tell the names apart are left out.
    """
    split = [name.split("_") for name in names]
    if len(set(names)) < 2:
        return list(names)
    same = next(i for i, words in enumerate(zip_longest(*split)) if len(set(words)) > 1)
    for end in range(same + 1, max(map(len, split)) + 1):
        short = ["_".join(["…"] * (same > 0) + words[same:end]) for words in split]
        if len(set(short)) == len(set(names)):
            return short
    return list(names)


def _all_text(column: Sequence[Value]) -> bool:
    return all(isinstance(value, str) for value in column)
