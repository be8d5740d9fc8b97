"""Write pre-labels: files that a labelling tool opens, to be corrected there and trained on again.

- ``labelstudio``: tasks with predictions for "Import"; ``data=labelstudio`` reads the export.
- ``yolo``: ``images``, ``labels`` and ``data.yaml``, as `convpose.data.yolo` reads them.
- ``cvat``: ``annotations/person_keypoints_default.json``, CVAT's "COCO Keypoints 1.0".

They are of pictures: frames of clips have no file that a tool could open.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from convpose import files
from convpose.data.annotation import Annotation
from convpose.data.coco import write_coco
from convpose.errors import DataError
from convpose.predict.predictor import Person
from convpose.predict.sources import Frame, base_name, path_of
from convpose.skeleton import Skeleton

CATEGORY = "person"
UNSURE = 0.3  # of the score; keypoints below it are marked as occluded, so that they are looked at
POINT = 0.5  # per cent of the width: Label Studio's size of a point


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
