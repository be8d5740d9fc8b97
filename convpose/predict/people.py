"""People as they were found, and boxes of people out of a file instead of a detector.

The file is a CSV with the columns ``image, x0, y0, x1, y1`` and perhaps ``frame``, ``id`` and
``score``; or a JSON list of ``{"image": …, "box_px": [x0, y0, x1, y1]}`` or of COCO's
``{"image_id": …, "bbox": [x, y, width, height]}``. The JSON and CSV that `convpose.predict` writes
with boxes can be read back. ``image`` is the path, its end, the file name or its stem; ``frame``
counts a clip's frames from 0. Coordinates are pixels of the upright picture, with centres at
integers.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convpose.bounded import UNEXPECTED, parse_csv, parse_json, read_file
from convpose.data.annotation import FARTHEST_PX
from convpose.data.crop import found_box_px
from convpose.data.reading import folded
from convpose.errors import DataError
from convpose.predict.sources import base_name

BOX_FORMATS = (
    "a CSV with the columns image, x0, y0, x1, y1, or a JSON list of "
    '{"image": "a.jpg", "box_px": [x0, y0, x1, y1]} or of COCO\'s {"image_id": …, "bbox": …}'
)


@dataclass(frozen=True, slots=True, eq=False)
class Person:
    """Keypoints of one person, in pixels of the upright original picture.

    Attributes:
        keypoints_px: (K, 2) float32, pixel centres at integers; may lie outside the picture.
        scores: (K,) float32 in [0, 1], confidence of each keypoint.
        box_px: (4,) float64 x0, y0, x1, y1, box that the person was found in; None where the whole
            frame was taken for one person.
        box_score: in [0, 1], the detector's confidence; 1 without a detector.
        track: number of the person in a clip; None in a still, and before the tracker is sure.
    """

    keypoints_px: NDArray[np.float32]
    scores: NDArray[np.float32]
    box_px: NDArray[np.float64] | None = None
    box_score: float = 1.0
    track: int | None = None

    @property
    def score(self) -> float:
        """Return the person's confidence: mean score of the keypoints times the box's."""
        return float(self.scores.mean()) * self.box_score

    @property
    def extent_px(self) -> NDArray[np.float64]:
        """Return (4,) the box, or without one the tight box around the keypoints."""
        if self.box_px is not None:
            return self.box_px
        points = self.keypoints_px.astype(np.float64)
        return np.concatenate([points.min(axis=0), points.max(axis=0)])

    def found_box_px(self, size_px: tuple[int, int]) -> NDArray[np.float64] | None:
        """Return the box for a closer look in a frame of width and height; see `found_box_px`."""
        return found_box_px(self.keypoints_px, self.scores, size_px)


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
        DataError: no such file, another format, a box without an area, or a score beyond 0 to 1.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        rows: dict[tuple[str, int], list[tuple[list[float], float, int | None]]] = defaultdict(list)
        try:
            for record in self._records():
                name = str(record["image"] if "image" in record else record["image_id"])
                box, track = _box(record), record.get("id")
                as_boxes([box])
                rows[name, int(record.get("frame") or 0)].append(
                    (box, _score(record), None if track in (None, "") else int(track))
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


def _score(record: Mapping[str, Any]) -> float:
    given = record.get("score")
    score = 1.0 if given in (None, "") else float(given)
    if not 0 <= score <= 1:  # NaN neither
        raise DataError(f"score {score:g}: expected 0 to 1; leave out scores of another kind")
    return score


def as_boxes(boxes_px: ArrayLike) -> NDArray[np.float64]:
    """Convert boxes to an array (N, 4).

    Raises:
        DataError: another shape, a place where no picture is, or a box without an area.
    """
    try:
        boxes = np.asarray(boxes_px, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"boxes {boxes_px!r}: expected numbers (N, 4)") from error
    if boxes.size == 0:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DataError(f"boxes of shape {boxes.shape}: expected (N, 4), x0, y0, x1, y1 in pixels")
    near = (np.abs(boxes) <= FARTHEST_PX).all(axis=1)  # False where NaN
    bad = ~(near & (boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    if bad.any():
        raise DataError(
            f"box {boxes[bad][0].tolist()}: expected x0, y0, x1, y1 in pixels with x0 < x1, y0 < y1"
        )
    return boxes
