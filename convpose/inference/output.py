"""Keypoints as files: JSON, COCO's keypoint results, CSV or Parquet, written as frames come.

Nothing is held back: memory does not grow with the length of a clip. A file appears under its name
only when it is complete.
"""

import csv
import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from convpose.errors import ConfigError
from convpose.extras import require
from convpose.inference.people import Person
from convpose.inference.records import coco_records, columns, frame_record, rows
from convpose.inference.sources import Frame
from convpose.skeleton import Skeleton

ROW_GROUP = 10_000  # of a Parquet file


class KeypointFile(Protocol):
    """A file that people are written to."""

    path: Path

    def write(self, frame: Frame, people: Sequence[Person]) -> None:
        """Add the people of a frame."""
        ...

    def close(self, complete: bool = True) -> None:
        """End the file; it is removed where it is not complete."""
        ...


def open_keypoints(file_format: str, folder: Path, skeleton: Skeleton) -> KeypointFile:
    """Begin ``keypoints.json``, ``keypoints_coco.json``, ``keypoints.csv`` or ``….parquet``.

    Raises:
        ConfigError: another format, or one whose package is not installed.
    """
    if file_format == "json":
        head = {"skeleton": skeleton.name, "keypoints": list(skeleton.keypoints)}
        opening = json.dumps(head)[:-1] + ', "frames": ['
        path = folder / "keypoints.json"
        return JsonFile(path, opening, "]}", lambda frame, people: [frame_record(frame, people)])
    if file_format == "coco":
        return JsonFile(folder / "keypoints_coco.json", "[", "]", coco_records)
    if file_format == "csv":
        return CsvFile(folder / "keypoints.csv", skeleton)
    if file_format == "parquet":
        return ParquetFile(folder / "keypoints.parquet", skeleton)
    raise ConfigError(f"format={file_format}: type json, coco, csv or parquet")


class JsonFile:
    """A JSON list that grows, with something before and after it.

    Args:
        path: of the file.
        opening: text before the first record.
        ending: text after the last.
        records: of a frame.
    """

    def __init__(
        self,
        path: Path,
        opening: str,
        ending: str,
        records: Callable[[Frame, Sequence[Person]], list[dict[str, Any]]],
    ) -> None:
        self.path = path
        self._ending = ending
        self._records = records
        self._text = partial(path).open("w", encoding="utf-8")
        self._text.write(opening)
        self._comma = "\n"

    def write(self, frame: Frame, people: Sequence[Person]) -> None:
        """See `KeypointFile`."""
        for record in self._records(frame, people):
            self._text.write(self._comma + json.dumps(record, allow_nan=False, ensure_ascii=False))
            self._comma = ",\n"

    def close(self, complete: bool = True) -> None:
        """See `KeypointFile`."""
        self._text.write(f"\n{self._ending}\n")
        self._text.close()
        finish(self.path, complete)


class CsvFile:
    """One row a person; a frame without people has none.

    Args:
        path: of the file.
        skeleton: names the columns.
    """

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        self.path = path
        self._skeleton = skeleton
        self._text = partial(path).open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._text, columns(skeleton), lineterminator="\n")
        self._writer.writeheader()

    def write(self, frame: Frame, people: Sequence[Person]) -> None:
        """See `KeypointFile`."""
        self._writer.writerows(rows(frame, people, self._skeleton))

    def close(self, complete: bool = True) -> None:
        """See `KeypointFile`."""
        self._text.close()
        finish(self.path, complete)


class ParquetFile:
    """The rows of the CSV with types.

    Args:
        path: of the file.
        skeleton: names the columns.

    Raises:
        ConfigError: the package pyarrow is not installed.
    """

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        require("parquet", "pyarrow")
        pyarrow: Any = importlib.import_module("pyarrow")  # ships no types
        parquet: Any = importlib.import_module("pyarrow.parquet")
        kinds = {"image": pyarrow.string(), "frame": pyarrow.int64(), "id": pyarrow.int64()}
        fields = [(name, kinds.get(name, pyarrow.float64())) for name in columns(skeleton)]
        self._schema: Any = pyarrow.schema(fields)
        self._table: Any = pyarrow.Table
        self.path = path
        self._skeleton = skeleton
        self._writer: Any = parquet.ParquetWriter(partial(path), self._schema)
        self._waiting: list[dict[str, Any]] = []

    def write(self, frame: Frame, people: Sequence[Person]) -> None:
        """See `KeypointFile`."""
        self._waiting += rows(frame, people, self._skeleton)
        if len(self._waiting) >= ROW_GROUP:
            self._write_group()

    def close(self, complete: bool = True) -> None:
        """See `KeypointFile`."""
        self._write_group()
        self._writer.close()
        finish(self.path, complete)

    def _write_group(self) -> None:
        self._writer.write_table(self._table.from_pylist(self._waiting, self._schema))
        self._waiting.clear()


def partial(path: Path) -> Path:
    """Where a file grows until it is complete; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(path.name + ".part")


def finish(path: Path, complete: bool = True) -> None:
    """Give a complete file its name, or remove the part."""
    if complete:
        partial(path).replace(path)
    else:
        partial(path).unlink(missing_ok=True)
