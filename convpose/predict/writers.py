"""Write keypoint files: JSON, COCO, CSV and Parquet."""

import csv
import importlib
import json
from collections.abc import Callable, Sequence
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


def open_keypoints(file_format: str, folder: Path, skeleton: Skeleton) -> KeypointFile:
    """Open ``keypoints.json``, ``keypoints_coco.json``, ``keypoints.csv`` or ``….parquet``.

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
        self.path = path
        self._ending = ending
        self._records = records
        self._text = partial(path).open("w", encoding="utf-8")
        self._text.write(opening)
        self._comma = "\n"

    def write(self, frame: Frame, people: Sequence[Person]) -> None:
        """Write the records of a frame."""
        for record in self._records(frame, people):
            self._text.write(self._comma + json.dumps(record, allow_nan=False, ensure_ascii=False))
            self._comma = ",\n"

    def close(self, complete: bool = True) -> None:
        """End the list and the file."""
        self._text.write(f"\n{self._ending}\n")
        self._text.close()
        finish(self.path, complete)


class CsvFile:
    """Write one row per person; a frame without people has none.

    Args:
        path: the file.
        skeleton: names the columns.
    """

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        self.path = path
        self._skeleton = skeleton
        self._text = partial(path).open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._text, columns(skeleton), lineterminator="\n")
        self._writer.writeheader()

    def write(self, frame: Frame, people: Sequence[Person]) -> None:
        """Write the rows of a frame."""
        self._writer.writerows(rows(frame, people, self._skeleton))

    def close(self, complete: bool = True) -> None:
        """End the file."""
        self._text.close()
        finish(self.path, complete)


class ParquetFile:
    """Write the rows of the CSV with types.

    Args:
        path: the file.
        skeleton: names the columns.

    Raises:
        ConfigError: the package pyarrow is not installed.
    """

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        require_extra("parquet", "pyarrow")
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
        """Write the rows of a frame, as soon as there are enough for a group."""
        self._waiting += rows(frame, people, self._skeleton)
        if len(self._waiting) >= ROW_GROUP:
            self._write_group()

    def close(self, complete: bool = True) -> None:
        """Write the last rows, and end the file."""
        self._write_group()
        self._writer.close()
        finish(self.path, complete)

    def _write_group(self) -> None:
        self._writer.write_table(self._table.from_pylist(self._waiting, self._schema))
        self._waiting.clear()


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


def coco_records(frame: Frame, people: Sequence[Person]) -> list[dict[str, Any]]:
    """Describe people as COCO keypoint results: x, y and score in the skeleton's own order.

    The image's id is its stem, as a number if it is one, as in COCO; in a clip, stem and frame.
    """
    stem = Path(base_name(frame.name)).stem
    image_id: int | str = int(stem) if stem.isdigit() else stem
    records = []
    for person in people:
        x0, y0, x1, y1 = person.extent_px.tolist()
        pairs = zip(person.keypoints_px.tolist(), person.scores.tolist(), strict=True)
        record = {
            "image_id": image_id if frame.time_s is None else f"{stem}_{frame.index:06d}",
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
