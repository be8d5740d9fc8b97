"""Read people's boxes from a file, instead of from a detector.

The file is a CSV with the columns ``image, x0, y0, x1, y1`` and perhaps ``frame``, ``id`` and
``score``; or a JSON list of ``{"image": …, "box_px": [x0, y0, x1, y1]}`` or of COCO's
``{"image_id": …, "bbox": [x, y, width, height]}``. The JSON and CSV that `convpose.predict` writes
with boxes can be read back. ``image`` is the path, its end, the file name or its stem; ``frame``
counts a clip's frames from 0. Coordinates are pixels of the upright picture, with centres at
integers.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convpose.bounded import UNEXPECTED, parse_csv, parse_json, read_file
from convpose.data.reading import folded
from convpose.errors import DataError
from convpose.predict.predictor import as_boxes
from convpose.predict.sources import base_name

BOX_FORMATS = (
    "a CSV with the columns image, x0, y0, x1, y1, or a JSON list of "
    '{"image": "a.jpg", "box_px": [x0, y0, x1, y1]} or of COCO\'s {"image_id": …, "bbox": …}'
)


class FrameBoxes(NamedTuple):
    """Boxes of the people of one frame.

    Attributes:
        boxes_px: (N, 4).
        scores: N, 1 where the file gives none.
        tracks: N numbers of people (`Person.track`), None where the file gives none.
    """

    boxes_px: NDArray[np.float64]
    scores: list[float]
    tracks: list[int | None]


class BoxFile:
    """Boxes of a file, looked up by image and frame.

    Args:
        path: a ``.csv`` or ``.json`` file.

    Attributes:
        numbered: whether the file numbers people, so that nobody has to be tracked.

    Raises:
        DataError: no such file, another format, or a box without an area.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        rows: dict[tuple[str, int], list[tuple[list[float], float, int | None]]] = defaultdict(list)
        try:
            for record in self._records():
                name = str(record["image"] if "image" in record else record["image_id"])
                box, score, track = _box(record), record.get("score"), record.get("id")
                as_boxes([box])
                rows[name, int(record.get("frame") or 0)].append(
                    (
                        box,
                        1.0 if score in (None, "") else float(score),
                        None if track in (None, "") else int(track),
                    )
                )
        except FileNotFoundError as error:
            raise DataError(f"boxes={path}: no such file; expected {BOX_FORMATS}") from error
        except DataError as error:
            raise DataError(f"boxes={path}: {str(error).removeprefix(': ')}") from error
        except (*UNEXPECTED, OSError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise DataError(f"boxes={path}: {reason}; expected {BOX_FORMATS}") from error
        self._given = {
            key: FrameBoxes(
                as_boxes([box for box, _, _ in found]),
                [score for _, score, _ in found],
                [track for _, _, track in found],
            )
            for key, found in rows.items()
        }
        self._names = {name for name, _ in rows}
        self._folded: defaultdict[str, list[str]] = defaultdict(list)
        for own_name in self._names:
            self._folded[folded(own_name)].append(own_name)
        self.numbered = any(track is not None for f in rows.values() for _, _, track in f)

    def find_name(self, name: str) -> str | None:
        """Find the name that the file gives to an image: the longest end of its path, or number.

        A path may end with its suffix or before it. Else one that is written another way
        counts (capitals, accents, ``%20``), if there is only one.
        """
        parts = Path(name).parts if base_name(name) == Path(name).name else (base_name(name),)
        ends = [str(Path(*parts[start:])) for start in range(len(parts))]
        stem = Path(ends[-1]).stem
        number = str(int(stem)) if stem.isdecimal() else stem  # COCO: 000000000139.jpg is 139
        known = (name, *(n for end in ends for n in (end, str(Path(end).with_suffix("")))), number)
        if found := next((n for n in known if n in self._names), None):
            return found
        alike = next((self._folded[folded(n)] for n in known if folded(n) in self._folded), [])
        return alike[0] if len(alike) == 1 else None

    def check(self, names: Iterable[str]) -> None:
        """Refuse a file that has a box for none of the images, or a name that fits two of them.

        Raises:
            DataError: no name of the file is one of theirs, or one is of several.
        """
        fitting: dict[str, str] = {}
        for name in names:
            found = self.find_name(name)
            if found and fitting.setdefault(found, name) != name:
                raise DataError(
                    f"boxes={self.path}: {found} is {fitting[found]} as well as {name}; type so "
                    "much of the path that it is one of them"
                )
        if not fitting:
            raise DataError(
                f"boxes={self.path}: has a box for none of the images; its first is named "
                f"{min(self._names, default='nothing')}. Name them by path, file name or stem"
            )

    def of_frame(self, name: str, frame: int = 0) -> FrameBoxes:
        """Look up the boxes of an image or of a frame of a clip; N = 0 where there are none."""
        key = self.find_name(name) or "", frame
        return self._given.get(key, FrameBoxes(np.zeros((0, 4)), [], []))

    def _records(self) -> Iterable[Mapping[str, Any]]:
        if self.path.suffix.lower() == ".csv":
            return parse_csv("", read_file(self.path), f"expected {BOX_FORMATS}")[1]
        content = parse_json("", read_file(self.path), f"expected {BOX_FORMATS}")
        if isinstance(content, list):
            return content
        if "annotations" in content:  # COCO's ground truth, whose images have names
            files = {image["id"]: image["file_name"] for image in content.get("images", [])}
            found = content["annotations"]
            return [{**a, "id": None, "image": files[a["image_id"]]} for a in found]
        return [  # what convpose.predict writes
            {**person, "image": frame["image"], "frame": frame["frame"]}
            for frame in content["frames"]
            for person in frame["people"]
            if person["box_px"] is not None
        ]


def _box(record: Mapping[str, Any]) -> list[float]:
    if "box_px" in record:
        return [float(value) for value in record["box_px"]]
    if "bbox" in record:
        x, y, width, height = (float(value) for value in record["bbox"])
        return [x, y, x + width, y + height]
    return [float(record[key]) for key in ("x0", "y0", "x1", "y1")]
