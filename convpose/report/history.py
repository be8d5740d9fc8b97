"""The history of a run: ``metrics.csv``, one row an epoch."""

import csv
import math
from pathlib import Path

from convpose.errors import DataError

Row = dict[str, float]


def read_history(path: Path, *columns: str) -> list[Row]:
    """The rows of a ``metrics.csv``; empty cells are left out.

    Args:
        path: the file.
        columns: names that must be there.

    Raises:
        DataError: no such file, no epoch in it, or a column that it lacks.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; a training writes it after its first epoch")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        found = list(reader.fieldnames or [])
        try:
            rows = [{k: float(v) for k, v in row.items() if v} for row in reader]
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: line {reader.line_num} is no row of numbers") from error
    missing = [name for name in ("epoch", *columns) if name not in found]
    if missing or not rows:
        raise DataError(
            f"{path}: "
            + (f"no column {missing[0]}; it has {', '.join(found)}" if missing else "no epoch yet")
        )
    return rows


def write_history(path: Path, rows: list[Row]) -> None:
    """Write all rows, atomically, so that a reader never sees half a file."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    partial = path.with_name(f"{path.name}.part")
    with partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows(rows)
    partial.replace(path)


def best_row(rows: list[Row], monitor: str, mode: str) -> Row:
    """The row with the best finite value of a metric; empty if there is none."""
    finite = [row for row in rows if math.isfinite(row.get(monitor, math.nan))]
    choose = max if mode == "max" else min
    return choose(finite, key=lambda row: row[monitor]) if finite else {}
