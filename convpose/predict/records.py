"""Describe people for other programs: records of JSON, COCO and tables, and pre-labels.

Pre-labels are files that a labelling tool opens, to be corrected there and trained on again:

- ``labelstudio``: tasks with predictions for "Import"; ``data=labelstudio`` reads the export.
- ``yolo``: ``images``, ``labels`` and ``data.yaml``, as `convpose.data.yolo` reads them.
- ``cvat``: ``annotations/person_keypoints_default.json``, CVAT's "COCO Keypoints 1.0".

They are of pictures: frames of clips have no file that a tool could open.
"""

import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from convpose import files
from convpose.data.annotation import Annotation
from convpose.data.coco import write_coco
from convpose.errors import DataError
from convpose.predict.people import Person
from convpose.predict.sources import Frame, base_name, path_of
from convpose.skeleton import Skeleton

PERSON_CATEGORY = 1  # of COCO
DIGITS = 4  # a ten-thousandth of a pixel, which is about what float32 holds of a large picture
CATEGORY = "person"
UNSURE = 0.3  # of the score; keypoints below it are marked as occluded, so that they are looked at
POINT = 0.5  # per cent of the width: Label Studio's size of a point


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


def labelstudio_task(frame: Frame, people: Sequence[Person], skeleton: Skeleton) -> dict[str, Any]:
    """Describe a picture as a task of Label Studio; each keypoint's parent is its rectangle."""
    _check_still(frame)
    size = np.array(frame.picture.size_px, np.float64)
    shared = {
        "to_name": "image",
        "original_width": int(size[0]),
        "original_height": int(size[1]),
        "image_rotation": 0,
    }
    result: list[dict[str, Any]] = []
    for number, person in enumerate(people, start=1):
        box = _inside(person, size) + 0.5
        x, y, right, bottom = (100 * box / np.tile(size, 2)).round(4).tolist()
        sides = {"width": right - x, "height": bottom - y, "rotation": 0}
        value = {"x": x, "y": y, **sides, "rectanglelabels": [CATEGORY]}
        parent = f"person{number}"
        kind = {"type": "rectanglelabels", "from_name": "box", "score": person.score}
        result.append({"id": parent, **kind, "value": value, **shared})
        shares = (100 * (person.keypoints_px + 0.5) / size).round(4).tolist()
        joints = zip(skeleton.keypoints, shares, person.scores.tolist(), strict=True)
        for name, (x, y), score in joints:
            value = {"x": x, "y": y, "width": POINT, "keypointlabels": [name]}
            kind = {"type": "keypointlabels", "from_name": "keypoints", "score": score}
            result.append(
                {"id": f"{parent}_{name}", "parentID": parent, **kind, "value": value, **shared}
            )
    path = f"/data/local-files/?d={frame.name}"
    return {
        "data": {"image": path},
        "predictions": [{"model_version": "convpose", "result": result}],
    }


class YoloFolder:
    """Write a data set for YOLO: pictures and labels go into subfolders of ``keypoints_yolo``.

    Args:
        folder: for ``keypoints_yolo``; its ``data.yaml`` is written first.
        skeleton: names the keypoints.
    """

    def __init__(self, folder: Path, skeleton: Skeleton) -> None:
        self.path = folder / "keypoints_yolo" / "data.yaml"
        self._names: set[str] = set()
        self._skeleton = skeleton
        self._begun = False

    def write(self, frame: Frame, people: Sequence[Person]) -> None:
        """Copy a picture, and write the rows of its people."""
        new = _new_name(frame, self._names).encode()
        name = Path(os.fsdecode(new))  # a locale may not have the letters
        size = np.array(frame.picture.size_px, np.float64)
        rows = []
        for person in people:
            box = _inside(person, size) + 0.5
            values = [*((box[:2] + box[2:]) / 2 / size), *((box[2:] - box[:2]) / size)]
            for point, v in zip(person.keypoints_px / size, _visible(person), strict=True):
                values += [*point, v]
            rows.append(" ".join(["0", *(f"{value:.8g}" for value in values)]))
        if not self._begun:  # before the disk may be full
            self._write_facts()
        if path_of(frame.name).is_file():
            picture = self.path.parent / "images" / name
            with path_of(frame.name).open("rb") as stored, files.replacing(picture) as copied:
                shutil.copyfileobj(stored, copied)
        label = self.path.parent / "labels" / name.with_suffix(".txt")
        files.write(label, "".join(f"{row}\n" for row in rows))

    def close(self, complete: bool = True) -> None:
        """Remove ``data.yaml`` if nothing came of it."""
        if not complete:
            self.path.unlink(missing_ok=True)

    def _write_facts(self) -> None:
        facts = {
            "train": "images",
            "val": "images",
            "kpt_shape": [self._skeleton.num_keypoints, 3],
            "flip_idx": list(self._skeleton.mirror),
            "names": {0: CATEGORY},
            "kpt_names": {0: list(self._skeleton.keypoints)},
        }
        files.write(self.path, yaml.safe_dump(facts, sort_keys=False))
        self._begun = True


class CvatFile:
    """Write a COCO file with its pictures' names where CVAT has it; all of it in the end.

    Args:
        folder: for ``annotations``.
        skeleton: names the keypoints.
    """

    def __init__(self, folder: Path, skeleton: Skeleton) -> None:
        self.path = folder / "annotations" / "person_keypoints_default.json"
        self._skeleton = skeleton
        self._people: list[Annotation] = []
        self._names: set[str] = set()

    def write(self, frame: Frame, people: Sequence[Person]) -> None:
        """Keep the people of a picture."""
        name = _new_name(frame, self._names)
        size = frame.picture.size_px
        for number, person in enumerate(people, start=1):
            box = _inside(person, np.array(size, np.float64))
            annotation = Annotation(
                f"{Path(name).stem}_{number}",
                "predicted",
                *size,
                person.keypoints_px,
                _visible(person),
                box,
                name,
            )
            self._people.append(annotation)

    def close(self, complete: bool = True) -> None:
        """Write the file; where the disk is full, the first half of it, a quarter, ….

        Raises:
            OSError: the disk is full.
        """
        full: OSError | None = None
        while complete and self._people:
            try:
                write_coco(self._people, self._skeleton, self.path)
                break
            except OSError as error:
                full, self._people = error, self._people[: len(self._people) // 2]
        if full is not None:
            raise full


def _visible(person: Person) -> NDArray[np.uint8]:
    return np.where(person.scores < UNSURE, 1, 2).astype(np.uint8)


def _inside(person: Person, size_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """Clip the box of a person to the picture, beyond which no tool lets one draw."""
    return np.clip(person.extent_px, -0.5, np.tile(size_px, 2) - 0.5)


def _new_name(frame: Frame, names: set[str]) -> str:
    """Return the name of a picture, which no other one may have."""
    _check_still(frame)
    name = base_name(frame.name)
    if name in names:
        raise DataError(
            f"{frame.name}: another picture is called {name}, too; predict each folder by itself, "
            "with output=FOLDER"
        )
    names.add(name)
    return name


def _check_still(frame: Frame) -> None:
    if frame.time_s is not None:
        raise DataError(
            f"{frame.name}: a clip has no pictures for a labelling tool; save its frames as "
            "pictures, or type format=json, coco, csv or parquet"
        )
