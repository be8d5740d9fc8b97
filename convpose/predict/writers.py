"""Write keypoint files: JSON, COCO, CSV and Parquet."""

import csv
import functools
import importlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from io import RawIOBase
from pathlib import Path
from typing import Any, Protocol

from convpose.errors import ConfigError, require_extra
from convpose.files import finish, partial
from convpose.predict.predictor import Person
from convpose.predict.sources import Frame, base_name
from convpose.skeleton import Skeleton

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
        file_format: ``json``, ``coco``, ``csv`` or ``parquet``.
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
    raise ConfigError(f"format={file_format}: type json, coco, csv or parquet")


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
                size = (size + 1) // 2
                continue
            self._writer.write_table(table)
            self._groups += 1
            del self._waiting[:size]

    def _reserve(self, group: list[dict[str, Any]]) -> Any:
        """Make the table of a group, and fill its place and that of the file's ending with zeros.

        A writer of Parquet cannot go back, and without its ending the file cannot be read.
        """
        table, alone = self._table.from_pylist(group, self._schema), io.BytesIO()
        self._parquet.write_table(table, alone)
        size = alone.getbuffer().nbytes
        ending = int.from_bytes(alone.getvalue()[-8:-4], "little")
        here = self._file.tell()
        try:
            write_all(self._file, bytes(size + ending * (self._groups + 1)))
        finally:
            self._file.seek(here)
        return table


PERSON_CATEGORY = 1  # of COCO
DIGITS = 4  # a ten-thousandth of a pixel, which is about what float32 holds of a large picture


def frame_record(frame: Frame, people: Sequence[Person]) -> dict[str, Any]:
    """Describe a frame with its people, for ``keypoints.json``."""
    return {
        "image": frame.name,
        "frame": frame.index,
        "time_s": _rounded(frame.time_s),
        "width_px": frame.picture.size_px[0],
        "height_px": frame.picture.size_px[1],
        "people": [
            {
                "id": person.track,
                "score": _rounded(person.score),
                "box_px": None if person.box_px is None else _rounded(person.box_px.tolist()),
                "keypoints_px": _rounded(person.keypoints_px.tolist()),
                "scores": _rounded(person.scores.tolist()),
            }
            for person in people
        ],
    }


def image_ids(names: Sequence[str]) -> dict[str, int | str]:
    """Choose an id of each picture or clip for COCO: its stem, as a number if it is one.

    Inputs of one stem get their whole name, so that no two have the same id.
    """
    ids = {name: _stem_id(name) for name in names}
    several = Counter(ids.values())
    clips = {name: re.sub(r"_\d{6,}$", "", str(stem)) for name, stem in ids.items()}  # clip_000012
    return {
        name: name
        if several[stem] > 1 or stem in ids or (clips[name] != str(stem) and clips[name] in several)
        else stem
        for name, stem in ids.items()
    }


def _stem_id(name: str) -> int | str:
    stem = Path(base_name(name)).stem
    return int(stem) if stem.isdecimal() else stem


def coco_records(
    frame: Frame, people: Sequence[Person], ids: Mapping[str, int | str]
) -> list[dict[str, Any]]:
    """Describe people as COCO keypoint results: x, y and score in the skeleton's own order.

    In a clip, the image's id is that of the clip, as a text, and the frame.
    """
    image_id = ids.get(frame.name, _stem_id(frame.name))
    if frame.time_s is not None:
        clip = image_id if image_id == frame.name else Path(base_name(frame.name)).stem
        image_id = f"{clip}_{frame.index:06d}"
    records = []
    for person in people:
        x0, y0, x1, y1 = person.extent_px.tolist()
        pairs = zip(person.keypoints_px.tolist(), person.scores.tolist(), strict=True)
        record = {
            "image_id": image_id,
            "file_name": frame.name,
            "category_id": PERSON_CATEGORY,
            "keypoints": _rounded([value for (x, y), score in pairs for value in (x, y, score)]),
            "score": _rounded(person.score),
            "bbox": _rounded([x0, y0, x1 - x0, y1 - y0]),
        }
        records.append(record)
    return records


def columns(skeleton: Skeleton) -> list[str]:
    """Name the columns of the CSV and Parquet tables."""
    head = ["image", "frame", "time_s", "id", "score", "x0", "y0", "x1", "y1"]
    return head + [f"{name}_{what}" for name in skeleton.keypoints for what in ("x", "y", "score")]


def rows(frame: Frame, people: Sequence[Person], skeleton: Skeleton) -> list[dict[str, Any]]:
    """Make the table's rows of a frame, one per person; None for what is not known."""
    found = []
    for person in people:
        box = [None] * 4 if person.box_px is None else person.box_px.tolist()
        pairs = zip(person.keypoints_px.tolist(), person.scores.tolist(), strict=True)
        values = [value for (x, y), score in pairs for value in (x, y, score)]
        who = [frame.name, frame.index, frame.time_s, person.track, person.score]
        cells = [who[0], who[1], *(_rounded(v) for v in (*who[2:], *box, *values))]
        found.append(dict(zip(columns(skeleton), cells, strict=True)))
    return found


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return round(value, DIGITS) if isinstance(value, float) else value
