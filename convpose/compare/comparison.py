"""Lay runs side by side: the keys that differ, and the results.

A `Comparison` holds the runs, best first, as columns; terminal, Markdown, CSV and page show the
same columns, so that they never disagree.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from convpose.compare.columns import MOST_KEYS, Column, make_columns
from convpose.compare.run_result import RunResult, read_run_result, run_folders
from convpose.errors import ConfigError, DataError
from convpose.plot.tables import Table

WHAT_TO_TYPE = "type study=FOLDER or runs=[FOLDER,FOLDER], of runs that convpose.train wrote"
SHORTEST_NAME = 8  # letters of a run's name in a terminal


@dataclass(frozen=True)
class Comparison:
    """Holds runs, best first.

    Attributes:
        title: name of the study and number of its runs.
        runs: their results.
        monitor: metric that sorts the runs, at the best epoch of each.
        mode: ``max`` or ``min``, its better end.
        columns: name of the run, monitor, keys that differ, other metrics, facts.
        implied: keys that differ, but follow from others.
        problems: (path, reason) of each run or file that could not be read.
    """

    title: str
    runs: Sequence[RunResult]
    monitor: str
    mode: str
    columns: Sequence[Column]
    implied: Sequence[str]
    problems: Sequence[tuple[str, str]]

    @property
    def judged(self) -> Column:
        """Return the column of the monitor."""
        return next(column for column in self.columns if column.name == self.monitor)

    def of_kind(self, kind: str) -> list[Column]:
        """List the columns of one kind."""
        return [column for column in self.columns if column.kind == kind]

    def column(self, name: str) -> Column | None:
        """Find a column by its name."""
        return next((column for column in self.columns if column.name == name), None)

    def label(self, i: int) -> str:
        """Describe run `i` by the keys that differ: ``lr 0.01 · batch_size 32``."""
        keys = [column for column in self.of_kind("key") if column.rank is not None]
        return " · ".join(f"{key.title} {key.texts[i]}" for key in keys) or self.columns[0].texts[i]

    def table(self, top: int | None = None, width: int | None = None) -> Table:
        """Tabulate the `top` best runs, or all, in the columns that fit into `width` letters."""
        columns = sorted((c for c in self.columns if c.rank is not None), key=lambda c: c.rank or 0)
        while width is not None and columns[-1].rank and sum(c.width for c in columns) > width:
            columns.pop()  # the least important
        columns = [column for column in self.columns if column in columns]
        count = len(self.runs) if top is None else min(top, len(self.runs))
        rows = [[column.texts[i] for column in columns] for i in range(count)]
        if width is not None:  # a long name must not push out the main metric
            room = max(width - 2 - sum(column.width for column in columns[1:]), SHORTEST_NAME)
            rows = [[_shortened(name, room), *rest] for name, *rest in rows]
        return Table(self.title, [c.title for c in columns], rows, self.caption(columns, count))

    def caption(self, columns: Sequence[Column], count: int) -> str:
        """Describe a table of `columns` and the `count` best runs, and what it leaves out."""
        keys = self.of_kind("key")
        left_out = [key.name for key in keys if key not in columns and key.name not in self.implied]
        implied = [key for key in self.implied if key not in [column.name for column in columns]]
        elsewhere = (
            f"{len(self.runs) - count} runs" if count < len(self.runs) else "",
            ", ".join(left_out[:MOST_KEYS]),
            f"{len(left_out) - MOST_KEYS} more keys" if len(left_out) > MOST_KEYS else "",
            f"{len(implied)} keys that follow from these" if implied else "",
        )
        missing = ", ".join(filter(None, elsewhere))
        other = different_data(self.runs)
        sentences = (
            f"metrics of the best epoch by {self.monitor}",
            "" if keys else "no key of the configurations differs",
            f"may not be comparable, for they differ in {' and '.join(other)}" if other else "",
            f"more in compare.csv and compare.html: {missing}" if missing else "",
        )
        return "; ".join(filter(None, sentences))

    def to_csv(self) -> str:
        """Write all columns as CSV: plain numbers, keys as they are typed."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(column.name for column in self.columns)
        writer.writerows(zip(*(column.values for column in self.columns), strict=True))
        return text.getvalue()


def read_comparison(folders: Iterable[Path], root: Path) -> Comparison:
    """Read run folders and compare them; list broken, unfinished and empty ones as problems.

    Args:
        folders: runs, and folders of runs such as a study.
        root: their common parent; the names of runs are relative to it.

    Raises:
        ConfigError: no run can be compared; the message has the reason of each.
    """
    runs: list[RunResult] = []
    problems: list[tuple[str, str]] = []
    for path in dict.fromkeys(run for folder in folders for run in run_folders(folder)):
        try:
            runs.append(read_run_result(path))
        except (DataError, OSError) as error:
            problems.append((_name(path, root), str(error)))
    if not runs:
        listed = "".join(f"\n  {path}: {reason}" for path, reason in problems)
        raise ConfigError(f"{root}: no run to compare; {WHAT_TO_TYPE}{listed}")
    (monitor, mode), votes = Counter((run.monitor, run.mode) for run in runs).most_common(1)[0]
    if votes < len(runs):
        others = len(runs) - votes
        verb = "run has" if others == 1 else "runs have"
        problems.append((".", f"{others} {verb} another monitor; all are judged by {monitor}"))
    judged = [(run.best(monitor, mode), run) for run in runs]
    sign = -1 if mode == "max" else 1
    judged.sort(key=lambda pair: sign * pair[0][monitor] if pair[0] else float("inf"))
    best, runs = [row for row, _ in judged], [run for _, run in judged]
    names = [_name(run.folder, root) for run in runs]
    for name, run in zip(names, runs, strict=True):
        problems += [(name, run.state)] * (not run.complete)
        problems += [(name, note) for note in run.notes]
    scored = [{**row, **run.scores} for row, run in zip(best, runs, strict=True)]
    columns, implied = make_columns(runs, names, scored, monitor)
    title = f"{root.resolve().name}: {len(runs)} run{'s' * (len(runs) > 1)}"
    return Comparison(title, runs, monitor, mode, columns, implied, problems)


def different_data(runs: Sequence[RunResult]) -> list[str]:
    """List the keys by which runs may be measured on different people or keypoints."""
    found: dict[str, set[str]] = {}
    for config in (run.flat(by_choice=False) for run in runs):
        sources = sorted({key.split(".")[2] for key in config if key.startswith("data.sources.")})
        found.setdefault("data.sources", set()).add(" ".join(sources))
        for key, usual in (("data.skeleton", "lsp14"), ("data.source", None), ("data.split", None)):
            # the name of a file: another machine has it in another folder
            found.setdefault(key, set()).add(Path(str(config.get(key, usual))).name)
    return [key for key, values in found.items() if len(values) > 1]


def _shortened(name: str, room: int) -> str:
    return name if len(name) <= room else name[: room - 1] + "…"


def _name(path: Path, root: Path) -> str:
    """Return a run's path relative to the common parent; its own name if it is the parent."""
    return os.path.relpath(path, root) if path.resolve() != root.resolve() else path.resolve().name


def left_out(comparison: Comparison) -> str:
    """Say how many runs a mean leaves out because they did not finish; empty if none."""
    count = sum(not run.finished for run in comparison.runs)
    return f"; left out, for they did not finish: {count} of {len(comparison.runs)}" * (count > 0)
