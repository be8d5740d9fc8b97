"""Read and write the history of a run: ``metrics.csv``, one row an epoch."""

import csv
import io
import math
from pathlib import Path

from convpose import files
from convpose.bounded import MAX_FACTS, parse_csv, read_file
from convpose.errors import DataError

Row = dict[str, float]


def read_history(path: Path, *columns: str) -> list[Row]:
    """Read the rows of a ``metrics.csv``; empty cells are left out.

    Args:
        path: the file.
        columns: names that must be there.

    Raises:
        DataError: no such file, no epoch in it, or a column that it lacks.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; a training writes it after its first epoch")
    found, lines = parse_csv(str(path), read_file(path, MAX_FACTS))
    rows: list[Row] = []
    for line in lines:
        try:
            rows.append({name: float(cell) for name, cell in line.items() if cell != ""})
        except (TypeError, ValueError) as error:  # TypeError: more or fewer cells than names
            raise DataError(f"{path}: line {len(rows) + 2} is no row of numbers") from error
    missing = [name for name in ("epoch", *columns) if name not in found]
    if missing or not rows:
        raise DataError(
            f"{path}: "
            + (f"no column {missing[0]}; it has {', '.join(found)}" if missing else "no epoch yet")
        )
    if not all(math.isfinite(row.get("epoch", math.nan)) for row in rows):
        raise DataError(f"{path}: a row without its epoch")
    return rows


def write_history(path: Path, rows: list[Row]) -> None:
    """Write all rows, atomically, so that a reader never sees half a file."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    files.write(path, text.getvalue())


def best_row(rows: list[Row], monitor: str, mode: str) -> Row:
    """Find the row with the best finite value of a metric; empty if there is none."""
    finite = [row for row in rows if math.isfinite(row.get(monitor, math.nan))]
    choose = max if mode == "max" else min
    return choose(finite, key=lambda row: row[monitor]) if finite else {}
