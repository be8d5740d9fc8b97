"""Label Studio's JSON export: keypoints, and rectangles that say whose they are.

Source: labelstud.io, "Export annotations", "Label Studio JSON format".

- **A task** is a photograph. Of its annotations the last one that was not skipped counts.
- **People.** A keypoint belongs to the rectangle that is its parent (``parentID``), else to the
  smallest one that it lies in. Without rectangles all keypoints of a task are one person.
- **Pixels.** x and y are per cent of width and height, from the edge of the first pixel.
- **Joints** are the labels, in the order in which they first occur. All of them are visible.
- **Category** is the label of the rectangle.
- **Photographs** are found by the end of their path: ``/data/local-files/?d=PATH``, and uploads
  with or without the eight letters that Label Studio puts before the name.
- **Ids**: ``STEM_NUMBER``, from 1 in the order of the people of a task.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from convpose.bounded import UNEXPECTED, parse_json
from convpose.config.instantiate import build_skeleton
from convpose.data.annotation import AnnotatedPerson
from convpose.data.reading import PhotoNames, stem_of
from convpose.data.reading.images import framed_size
from convpose.data.reading.person_source import People, PeopleSource
from convpose.errors import DataError
from convpose.skeleton import Skeleton

_UPLOADED = re.compile(r"(^|/)[0-9a-f]{8}-(?=[^/]*$)")
_REMEDY = "expected Label Studio's export as JSON (not JSON-MIN), of keypoints and rectangles"


class LabelStudioSource(PeopleSource):
    """People of Label Studio's JSON; see `PeopleSource` for the arguments."""

    NAME = "labelstudio"
    PATTERNS = ("*.json",)
    UPRIGHT = "exif"

    @classmethod
    def own_skeleton(cls, keys: Mapping[str, Any]) -> Skeleton:
        """Build a skeleton of the labels."""
        file, content = next(iter(cls.find_files(keys)[0].items()))
        names, tasks = keys.get("names") or {}, _tasks(file, content)
        joints = [
            str(names.get(joint, joint)) for joint in _joints(file, tasks, keys.get("category"))
        ]
        return build_skeleton({"name": cls.NAME, "keypoints": joints}, file)

    def read_people(self, file: str, content: bytes, left_out: Counter[str]) -> People:
        """Read a JSON file."""
        tasks = _tasks(file, content)
        joints = _joints(file, tasks, self.category)
        return joints, self._people(file, tasks, list(joints), left_out)

    def _people(
        self, file: str, tasks: list[Any], joints: list[str], left_out: Counter[str]
    ) -> Iterator[AnnotatedPerson]:
        names = PhotoNames(self.photos.names())
        photos = []
        for number, task in enumerate(tasks):
            with _named(file, number):
                photos.append(_photo(task, names))
        called = Counter(photo for _, photo in set(photos))
        for number, (task, (path, photo)) in enumerate(zip(tasks, photos, strict=True)):
            if called[photo] > 1:
                photo = path  # several uploads of that name: the base class says so
            self.named.append((photo, None))
            with _named(file, number):
                for region in _regions(task):
                    if not (region.get("original_width") and region.get("original_height")):
                        found = names.find(photo)
                        size = framed_size(self.photos, found, self.upright) if found else (1, 1)
                        region["original_width"], region["original_height"] = size
                for who, (box, points) in enumerate(_people_of(file, number, task), start=1):
                    if self.category not in (None, _of(box)):
                        left_out[f"of another category than {self.category}"] += 1
                        continue
                    points_px = np.full((len(joints), 2), np.nan)
                    for point in points:
                        points_px[joints.index(_label(point))] = _corner_px(point) - 0.5
                    region = points[0] if box is None else box
                    box_px = None
                    if box is not None:
                        low = _corner_px(box)
                        high = low + [_share(box, "width"), _share(box, "height")] * _size(box)
                        box_px = np.concatenate([low, high]) - 0.5
                    width, height = _size(region).tolist()
                    self.categories[_of(box)] += 1
                    yield AnnotatedPerson(
                        f"{stem_of(photo)}_{who}",
                        photo,
                        points_px,
                        np.where(np.isnan(points_px[:, 0]), 0, 2).astype(np.uint8),
                        box_px,
                        None,
                        (int(width), int(height)),
                    )


def _tasks(file: str, content: bytes) -> list[Any]:
    tasks = parse_json(file, content, _REMEDY)
    if not isinstance(tasks, list) or not any(isinstance(t, dict) and "data" in t for t in tasks):
        raise DataError(f"{file}: {_REMEDY}")
    return tasks


def _regions(task: dict[str, Any]) -> list[dict[str, Any]]:
    """List the regions of the annotation that counts; of none without one."""
    done = [a for a in task.get("annotations") or () if not a.get("was_cancelled")]
    return list(done[-1]["result"]) if done else []


@contextmanager
def _named(file: str, number: int) -> Iterator[None]:
    """Name the task that is not as expected."""
    try:
        yield
    except UNEXPECTED as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(
            f"{file}: task {number} is not as expected ({reason}); {_REMEDY}"
        ) from error


def _joints(file: str, tasks: list[Any], category: str | None) -> tuple[str, ...]:
    """Name the joints, of a category those of its people, as they first occur."""
    people = []
    for number, task in enumerate(tasks):
        with _named(file, number):
            people += _people_of(file, number, task)
    own = {_label(p) for box, points in people for p in points if category in (None, _of(box))}
    if people and not own:
        there = ", ".join(dict.fromkeys(_of(box) for box, _ in people))
        raise DataError(f"{file}: data.category={category}: nobody is; there are {there}")
    regions = (region for task in tasks for region in _regions(task))
    return tuple(dict.fromkeys(_label(r) for r in regions if _is_point(r) and _label(r) in own))


def _is_point(region: Mapping[str, Any]) -> bool:
    return bool(region["type"] == "keypointlabels")


def _label(region: Mapping[str, Any]) -> str:
    return str(next(iter(region["value"].get(region["type"]) or ()), ""))


def _of(box: Mapping[str, Any] | None) -> str:
    """Return the category of a person."""
    return (box and _label(box)) or "no label"


def _share(region: Mapping[str, Any], key: str) -> float:
    return float(region["value"][key]) / 100


def _size(region: Mapping[str, Any]) -> NDArray[np.float64]:
    return np.array([region["original_width"], region["original_height"]], np.float64)


def _corner_px(region: Mapping[str, Any]) -> NDArray[np.float64]:
    """Return x and y of a region in pixels, from the edge of the first one."""
    corner: NDArray[np.float64] = _size(region) * (_share(region, "x"), _share(region, "y"))
    return corner


def _people_of(
    file: str, number: int, task: dict[str, Any]
) -> list[tuple[dict[str, Any] | None, list[dict[str, Any]]]]:
    """Group the keypoints of a task by their rectangles."""
    regions = _regions(task)
    boxes = {r["id"]: r for r in regions if r["type"] == "rectanglelabels"}
    boxes = dict(sorted(boxes.items(), key=lambda item: _area(item[1])))
    people: dict[str | None, list[dict[str, Any]]] = {key: [] for key in boxes}
    where = f"{file}: task {task.get('id', number)}"
    for point in filter(_is_point, regions):
        if not _label(point):
            raise DataError(
                f"{where} has a keypoint without a label; label it there or remove it, and export "
                "again"
            )
        held = (key for key, box in boxes.items() if _holds(box, point))
        whose = point.get("parentID")
        people.setdefault(whose if whose in boxes else next(held, None), []).append(point)
    for points in people.values():
        twice = [label for label, n in Counter(map(_label, points)).items() if n > 1]
        if twice:
            raise DataError(
                f"{where} has {twice[0]} more than once in one person; draw a rectangle around "
                "each person, or make it the keypoints' parent"
            )
    order = [r["id"] for r in regions if r["id"] in boxes] + [None] * (None in people)
    return [(boxes.get(key) if key else None, people[key]) for key in order if people[key]]


def _area(box: Mapping[str, Any]) -> float:
    return _share(box, "width") * _share(box, "height")


def _holds(box: Mapping[str, Any], point: Mapping[str, Any]) -> bool:
    return all(
        0 <= _share(point, axis) - _share(box, axis) <= _share(box, side)
        for axis, side in (("x", "width"), ("y", "height"))
    )


def _photo(task: Mapping[str, Any], names: PhotoNames) -> tuple[str, str]:
    """Return the path of a task's photograph, and that path as the archive may have it."""
    texts = [v for v in task["data"].values() if isinstance(v, str)]
    texts = sorted(texts, key=lambda text: "/" not in text) or [""]  # captions come last
    paths = [unquote(text.rpartition("?d=")[2]) for text in texts]
    named = [(path, name) for path in paths for name in (path, _UPLOADED.sub(r"\1", path))]
    return next((each for each in named if names.find(each[1])), named[1])
