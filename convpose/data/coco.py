"""COCO keypoints: people of ``person_keypoints_*.json``, and of any file in that format.

Source: T.-Y. Lin et al., ECCV 2014; the format is described at cocodataset.org, "Data format".

- **Pixels.** A keypoint has a "0-indexed location", in COCO the whole number of a pixel; so it is
  taken as it is, pixel centres at integers. A box is "measured from the top left image corner", so
  its edge 0 is our −0.5. (Detectron2's ``datasets/coco.py`` reads both that way.)
- **Orientation.** See `convpose.data.reading.frames`.
- **Visibility** is ours: 0 unlabelled (then x = y = 0), 1 occluded, 2 visible.
- **Joints** are named by the file's category, so that any names are read; left is the person's own.
  COCO has neither neck nor head top: both stay masked (`convpose.skeleton` says why).
- **Box**: the person's ``bbox``.
- **Left out** and counted: crowds (``iscrowd``, many people in one box), what is marked ``ignore``,
  people without keypoints or with fewer than `min_joints` of the skeleton.
- **Ids**: ``STEM_ID``, the photograph's stem and the annotation's id, as ``000000123456_425226``;
  files that `convpose.data.coco_export` wrote keep the ids that they came from.
- **Subset**: named by the file. COCO's test labels are not public, so with
  ``data.split=official`` val2017 is the test, as in publications.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from convpose.bounded import parse_json
from convpose.data.reading import stem_of, subset_of
from convpose.data.reading.person import AnnotatedPerson
from convpose.data.reading.person_source import People, PeopleSource
from convpose.errors import DataError

_REMEDY = "name a COCO keypoints file such as person_keypoints_val2017.json with data.source="


class CocoSource(PeopleSource):
    """People of COCO keypoint files; see `PeopleSource` for the arguments."""

    NAME = "coco"
    STEMS = ("coco",)
    PATTERNS = ("person_keypoints_*2017.json",)

    def read_people(self, file: str, content: bytes, left_out: Counter[str]) -> People:
        """Read a JSON file."""
        tables = parse_json(file, content, _REMEDY)
        category_id, joints = _category(file, tables)
        return joints, _people(file, tables, category_id, len(joints), left_out)


def _category(file: str, content: Any) -> tuple[Any, tuple[str, ...]]:
    """Find the one category that has keypoints; return its id and its joint names."""
    expected = f"{file}: expected an object with lists of images, annotations and categories"
    if not isinstance(content, dict):
        raise DataError(f"{expected}, found a {type(content).__name__}; {_REMEDY}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            found = ", ".join(sorted(content)[:8]) or "nothing"
            raise DataError(f"{expected}, but {key} is not there (it has {found}); {_REMEDY}")
    with_joints = [c for c in content["categories"] if isinstance(c, dict) and c.get("keypoints")]
    if len(with_joints) != 1 or "id" not in with_joints[0]:
        raise DataError(
            f"{file}: expected one category with keypoints, found {len(with_joints)} of "
            f"{len(content['categories'])}; instances_*.json and captions_*.json have none; "
            f"{_REMEDY}"
        )
    return with_joints[0]["id"], tuple(map(str, with_joints[0]["keypoints"]))


def _people(
    file: str, content: dict[str, Any], category_id: Any, count: int, left_out: Counter[str]
) -> Iterator[AnnotatedPerson]:
    subset = subset_of(file)
    where = "images"
    try:
        images = {image["id"]: image for image in content["images"]}
        for number, annotation in enumerate(content["annotations"]):
            where = f"annotations[{number}]"
            if annotation["category_id"] != category_id:
                continue
            keypoints = annotation.get("keypoints") or []
            if annotation.get("iscrowd") or annotation.get("ignore"):
                left_out["who are a crowd or to be ignored"] += 1
                continue
            if not keypoints or not any(keypoints[2::3]):
                left_out["without any labelled joint"] += 1
                continue
            if len(keypoints) != 3 * count:
                raise DataError(
                    f"{file}: annotation {annotation['id']} has {len(keypoints)} numbers in "
                    f"keypoints, expected x, y and v of {count} joints, {3 * count}; {_REMEDY}"
                )
            image = images[annotation["image_id"]]
            values = np.array(keypoints, dtype=np.float64).reshape(count, 3)
            if not np.isin(values[:, 2], (0, 1, 2)).all():
                raise ValueError("a v that is none of 0, 1 and 2")
            left, top, width, height = annotation.get("bbox") or [np.nan] * 4
            yield AnnotatedPerson(
                annotation.get("convpose_id")
                or f"{stem_of(image['file_name'])}_{annotation['id']}",
                image["file_name"],
                values[:, :2],
                values[:, 2].astype(np.uint8),
                np.array([left, top, left + width, top + height]) - 0.5,
                subset,
                (int(image["width"]), int(image["height"])),
                image.get("convpose_upright"),
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(
            f"{file}: {where} is not as expected ({reason}): images with id, file_name, width and "
            "height; annotations with id, image_id, category_id, keypoints [x, y, v, …] and bbox "
            f"[left, top, width, height]; {_REMEDY}"
        ) from error
