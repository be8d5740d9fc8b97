"""Write keypoint files: JSON, COCO, CSV and Parquet."""

import csv
import functools
import importlib
import io
import json
from collections.abc import Callable, Sequence
from io import RawIOBase
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from convpose.errors import ConfigError, require_extra
from convpose.files import finish, partial
from convpose.predict.people import Person
from convpose.predict.records import (
    CvatFile,
    YoloFolder,
    coco_records,
    columns,
    frame_record,
    image_ids,
    labelstudio_task,
    rows,
)
from convpose.predict.sources import Frame
from convpose.skeleton import Skeleton

Format = Literal["json", "coco", "csv", "parquet", "labelstudio", "yolo", "cvat"]
FORMATS = get_args(Format)
ROW_GROUP = 10_000  # rows of a Parquet file that are written at a time


class KeypointFile(Protocol):
    """Write people to a file, frame by frame."""

    path: Path

    def write(self, frame: Frame, people: Sequence[Person]) -> None:
        """Write the people of a frame."""
        ...

    def close(self, complete: bool = True) -> None:
        """End the file, and remove it if it is not complete."""
        ...


def open_keypoints(
    file_format: str, folder: Path, skeleton: Skeleton, names: Sequence[str] = ()
) -> KeypointFile:
    """Open ``keypoints.json``, ``keypoints_coco.json``, ``keypoints.csv`` or ``….parquet``.

    Args:
        file_format: one of `FORMATS`; the last three are pre-labels, see `predict.records`.
        folder: for the file.
        skeleton: names the keypoints.
        names: of all inputs, which share no id in COCO's format; see `image_ids`.

    Raises:
        ConfigError: another format, or one whose package is not installed.
    """
    if file_format == "json":
        head = {"skeleton": skeleton.name, "keypoints": list(skeleton.keypoints)}
        opening = json.dumps(head)[:-1] + ', "frames": ['
        path = folder / "keypoints.json"
        return JsonFile(path, opening, "]}", lambda frame, people: [frame_record(frame, people)])
    if file_format == "coco":
        records = functools.partial(coco_records, ids=image_ids(names))
        return JsonFile(folder / "keypoints_coco.json", "[", "]", records)
    if file_format == "csv":
        return CsvFile(folder / "keypoints.csv", skeleton)
    if file_format == "parquet":
        return ParquetFile(folder / "keypoints.parquet", skeleton)
    if file_format == "labelstudio":
        path = folder / "keypoints_labelstudio.json"
        return JsonFile(path, "[", "]", lambda of, people: [labelstudio_task(of, people, skeleton)])
    if file_format in ("yolo", "cvat"):
        return (YoloFolder if file_format == "yolo" else CvatFile)(folder, skeleton)
    raise ConfigError(f"format={file_format}: type one of {', '.join(FORMATS)}")


class GrowingFile:
    """Grow a file by whole frames: it ends with the last one that the disk had room for.

    The ending is written after every frame and overwritten by the next, so its room is there.

    Args:
        path: the file.
        opening: text before the first frame.
        ending: text after the last frame.

    Raises:
        OSError: the disk is full or not writable; also by `add`, which then adds nothing.
    """

    def __init__(self, path: Path, opening: str, ending: str = "") -> None:
        self.path = path
        self._ending = ending.encode()
        self._end = 0
        self._file = partial(path).open("wb", buffering=0)
        try:
            self.add(opening)
        except OSError:
            self._file.close()
            finish(path, complete=False)
            raise

    def add(self, text: str) -> None:
        """Write the text of a frame."""
        data = text.encode()
        self._file.seek(self._end)
        write_all(self._file, data + self._ending)
        self._end += len(data)

    def close(self, complete: bool = True) -> None:
        """End the file after the last whole frame."""
        self._file.seek(self._end)
        self._file.write(self._ending)
        self._file.truncate()
        self._file.close()
        finish(self.path, complete)


def write_all(file: RawIOBase, data: bytes) -> None:
    """Write all bytes to a file without a buffer, which may take a part at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]


class JsonFile(GrowingFile):
    """Write a JSON list record by record, with text before and after it.

    Args:
        path: the file.
        opening: text before the first record.
        ending: text after the last record.
        records: makes the records of a frame with its people.
    """

    def __init__(
        self,
        path: Path,
        opening: str,
        ending: str,
        records: Callable[[Frame, Sequence[Person]], list[dict[str, Any]]],
    ) -> None:
        super().__init__(path, opening, f"\n{ending}\n")
        self._records = records
        self._comma = "\n"

    def write(self, frame: Frame, people: Sequence[Person]) -> None:
        """Write the records of a frame."""
        lines = [
            json.dumps(record, allow_nan=False, ensure_ascii=False)
            for record in self._records(frame, people)
        ]
        if lines:
            self.add(self._comma + ",\n".join(lines))
            self._comma = ",\n"


class CsvFile(GrowingFile):
    """Write one row per person; a frame without people has none.

    Args:
        path: the file.
        skeleton: names the columns.
    """

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        self._skeleton = skeleton
        super().__init__(path, ",".join(columns(skeleton)) + "\n")

    def write(self, frame: Frame, people: Sequence[Person]) -> None:
        """Write the rows of a frame."""
        text = io.StringIO()
        table = csv.DictWriter(text, columns(self._skeleton), lineterminator="\n")
        table.writerows(rows(frame, people, self._skeleton))
        self.add(text.getvalue())


class ParquetFile:
    """Write the rows of the CSV with types, in groups whose room on the disk is taken before.

    Args:
        path: the file.
        skeleton: names the columns.

    Raises:
        ConfigError: the package pyarrow is not installed.
        OSError: the disk is full or not writable; also by `write` and `close`, which keep what
            fits.
    """

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        require_extra("parquet", "pyarrow")
        pyarrow: Any = importlib.import_module("pyarrow")  # ships no types
        self._parquet: Any = importlib.import_module("pyarrow.parquet")
        kinds = {"image": pyarrow.string(), "frame": pyarrow.int64(), "id": pyarrow.int64()}
        fields = [(name, kinds.get(name, pyarrow.float64())) for name in columns(skeleton)]
        self._schema: Any = pyarrow.schema(fields)
        self._table: Any = pyarrow.Table
        self.path = path
        self._skeleton = skeleton
        self._file = partial(path).open("wb", buffering=0)
        self._writer: Any = self._parquet.ParquetWriter(self._file, self._schema)
        self._groups = 0
        self._room = 0  # rows whose place on the disk is taken
        self._waiting: list[dict[str, Any]] = []
        try:
            self._reserve([])
        except OSError:
            self.close(complete=False)
            raise

    def write(self, frame: Frame, people: Sequence[Person]) -> None:
        """Write the rows of a frame, as soon as there are enough for a group."""
        self._waiting += rows(frame, people, self._skeleton)
        if len(self._waiting) >= ROW_GROUP:
            self._write_groups()
        elif len(self._waiting) > self._room:  # or drawings would fill the disk before they come
            try:
                self._reserve(self._waiting, 2)
                self._room = 2 * len(self._waiting)
            except OSError:
                self._reserve(self._waiting)
                self._room = len(self._waiting)

    def close(self, complete: bool = True) -> None:
        """Write the last rows, and end the file."""
        try:
            self._write_groups()
        finally:
            self._writer.close()
            self._file.truncate()
            self._file.close()
            finish(self.path, complete)

    def _write_groups(self) -> None:
        """Write what waits; where the disk is full, half of it, a quarter, … to the last row."""
        size = len(self._waiting)
        while self._waiting:
            try:
                table = self._reserve(self._waiting[:size])
            except OSError:
                if size == 1:
                    raise
                size = self._room if 0 < self._room < size else (size + 1) // 2
                continue
            self._writer.write_table(table)
            self._groups += 1
            self._room = 0
            del self._waiting[:size]

    def _reserve(self, group: list[dict[str, Any]], times: int = 1) -> Any:
        """Make the table of a group, and fill its place and that of the file's ending with zeros.

        A writer of Parquet cannot go back, and without its ending the file cannot be read. `times`
        is the room to take for more rows like these.
        """
        table, alone = self._table.from_pylist(group, self._schema), io.BytesIO()
        self._parquet.write_table(table, alone)
        size = alone.getbuffer().nbytes
        ending = int.from_bytes(alone.getvalue()[-8:-4], "little")
        here = self._file.tell()
        try:
            write_all(self._file, bytes(times * size + ending * (self._groups + 1)))
        finally:
            self._file.seek(here)
        return table
