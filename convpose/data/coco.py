"""COCO keypoints: read people of ``person_keypoints_*.json`` and the like, and write any data set.

Source: T.-Y. Lin et al., ECCV 2014; the format is described at cocodataset.org, "Data format".

- **Pixels.** A keypoint has a "0-indexed location", in COCO the whole number of a pixel; so it is
  taken as it is, pixel centres at integers. A box is "measured from the top left image corner", so
  its edge 0 is our −0.5. (Detectron2's ``datasets/coco.py`` reads both that way.)
- **Orientation.** See `convpose.data.reading.images`.
- **Visibility** is ours: 0 unlabelled (then x = y = 0), 1 occluded, 2 visible.
- **Joints** are named by the file's category, so that any names are read; left is the person's own.
  Of several categories with keypoints ``data.category`` names one; ids are compared as text.
  With ``data.skeleton=category`` they are the skeleton, which ``auto`` chooses for names that no
  skeleton of convpose has.
  COCO has neither neck nor head top: both stay masked (`convpose.skeleton` says why).
- **Box**: the person's ``bbox``.
- **Left out** and counted: crowds (``iscrowd``, many people in one box), what is marked ``ignore``,
  people without keypoints or with fewer than `min_joints` of the skeleton.
- **Ids**: ``STEM_ID``, the photograph's stem and the annotation's id, as ``000000123456_425226``;
  files that `write_coco` wrote keep the ids that they came from, as ``convpose_id``, and say by
  ``convpose_upright`` if the pixels are those of the photograph turned as EXIF says.
- **Subset**: named by the file. COCO's test labels are not public, so with
  ``data.split=official`` val2017 is the test, as in publications.
"""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convpose import files
from convpose.bounded import parse_json
from convpose.config.instantiate import build_skeleton
from convpose.data.annotation import AnnotatedPerson, Annotation
from convpose.data.reading import stem_of, subset_of
from convpose.data.reading.person_source import People, PeopleSource
from convpose.errors import DataError
from convpose.skeleton import Skeleton

_REMEDY = "name a COCO keypoints file such as person_keypoints_val2017.json with data.source="

MAX_CATEGORIES = 2**22  # bytes of the table of categories
UNREAD = ("segmentation",)  # outlines: most of COCO's own files, and nobody reads them


class CocoSource(PeopleSource):
    """People of COCO keypoint files; see `PeopleSource` for the arguments."""

    NAME = "coco"
    STEMS = ("coco",)
    PATTERNS = ("person_keypoints_*2017.json",)
    OTHERS = ("person_keypoints_*.json", "_annotations.coco.json")  # of CVAT, of Roboflow

    @classmethod
    def own_skeleton(cls, keys: Mapping[str, Any]) -> Skeleton:
        """Build the skeleton of the category: its ``keypoints``, and its ``skeleton`` as limbs."""
        file, content = next(iter(cls.find_files(keys)[0].items()))
        category = _find_category(file, content, keys.get("category"))
        names = keys.get("names") or {}
        joints = [str(names.get(joint, joint)) for joint in category["keypoints"]]
        try:
            bones = [(joints[a - 1], joints[b - 1]) for a, b in category.get("skeleton") or ()]
        except (TypeError, ValueError, IndexError):
            bones = []  # only drawn
        label = str(category.get("name") or Path(file).stem)
        return build_skeleton({"name": label, "keypoints": joints, "limbs": bones}, file)

    def read_people(self, file: str, content: bytes, left_out: Counter[str]) -> People:
        """Read a JSON file."""
        tables, category = read_tables(file, content, self.category)
        joints = tuple(map(str, category["keypoints"]))
        names = [i.get("file_name") for i in tables["images"] if isinstance(i, dict)]
        self.named += [(name, subset_of(file)) for name in names if isinstance(name, str)]
        return joints, _people(file, tables, category, len(joints), left_out)


def read_tables(
    file: str, content: bytes, wanted: str | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the tables of a file, and the category of its people.

    Args:
        file: path, for messages.
        content: of the file.
        wanted: name of the category; None for the only one with keypoints.

    Raises:
        DataError: no tables of images, annotations and categories, or no such category.
    """
    tables = _tables(file, parse_json(file, content, _REMEDY, drop=UNREAD))
    return tables, find_category(file, tables["categories"], wanted)


def _find_category(file: str, content: bytes, wanted: str | None) -> dict[str, Any]:
    """Find the category with keypoints without parsing all of a file, which may be COCO's own."""
    for key in re.finditer(rb'"categories"\s*:\s*(?=\[)', content):
        text = content[key.end() : key.end() + MAX_CATEGORIES].decode("utf-8", "replace")
        with contextlib.suppress(ValueError, RecursionError):
            categories, _ = json.JSONDecoder().raw_decode(text)
            return find_category(file, categories, wanted)
    return read_tables(file, content, wanted)[1]


def _tables(file: str, content: Any) -> dict[str, Any]:
    """Check that a file has the three tables."""
    expected = f"{file}: expected an object with lists of images, annotations and categories"
    if not isinstance(content, dict):
        raise DataError(f"{expected}, found a {type(content).__name__}; {_REMEDY}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            found = ", ".join(sorted(content)[:8]) or "nothing"
            raise DataError(f"{expected}, but {key} is not there (it has {found}); {_REMEDY}")
    return content


def find_category(file: str, categories: list[Any], wanted: str | None) -> dict[str, Any]:
    """Find the category that has keypoints, the one of a name if several have."""
    named = [c for c in categories if isinstance(c, dict) and c.get("keypoints") and "id" in c]
    names = [str(category.get("name", category["id"])) for category in named]
    if wanted is not None and wanted not in names:
        raise DataError(
            f"{file}: data.category={wanted}: no category of that name has keypoints; those that "
            f"have are {', '.join(names) or 'none'}"
        )
    if wanted is None and len(named) > 1:
        raise DataError(
            f"{file}: {len(named)} categories have keypoints: {', '.join(names)}; type "
            f"data.category={names[0]}, or another of them"
        )
    if not named:
        raise DataError(
            f"{file}: expected a category with keypoints, found none in {len(categories)}; "
            f"instances_*.json and captions_*.json have none; {_REMEDY}"
        )
    return named[0 if wanted is None else names.index(wanted)]


def person_id(annotation: Mapping[str, Any], number: int, image: Mapping[str, Any]) -> str:
    """Return the id of an annotation: the one it came from, else ``STEM_ID``."""
    own = number if annotation.get("id") is None else annotation["id"]
    return annotation.get("convpose_id") or f"{stem_of(image['file_name'])}_{own}"


def _people(
    file: str,
    content: dict[str, Any],
    category: dict[str, Any],
    count: int,
    left_out: Counter[str],
) -> Iterator[AnnotatedPerson]:
    subset = subset_of(file)
    where = "images"
    images: dict[str, tuple[int, Any]] = {}
    try:
        for number, image in enumerate(content["images"]):
            where = f"images[{number}]"
            same = images.setdefault(as_text(image["id"]), (number, image))[1]
            if same.get("file_name") != image.get("file_name"):
                raise ValueError(f"another photograph has the id {image['id']}")
        for number, annotation in enumerate(content["annotations"]):
            where = f"annotations[{number}]"
            of_category = as_text(annotation.get("category_id", category["id"]))
            if of_category != as_text(category["id"]):
                left_out[f"of another category than {category.get('name', 'the one')}"] += 1
                continue
            if is_set(annotation.get("iscrowd")) or is_set(annotation.get("ignore")):
                left_out["who are a crowd or to be ignored"] += 1
                continue
            values = np.array(annotation.get("keypoints") or [], dtype=np.float64).ravel()
            if not np.nan_to_num(values[2::3]).any():
                left_out["without any labelled joint"] += 1
                continue
            if len(values) != 3 * count:
                own_id = annotation.get("id", number)
                raise DataError(
                    f"{file}: annotation {own_id} has {len(values)} numbers in "
                    f"keypoints, expected x, y and v of {count} joints, {3 * count}; {_REMEDY}"
                )
            points_px = np.stack([values[::3], values[1::3]], axis=1)
            visibility = np.nan_to_num(values[2::3])  # null: unlabelled
            if not np.isin(visibility, (0, 1, 2)).all():
                raise ValueError("a v that is none of 0, 1 and 2")
            left, top, width, height = map(_number, annotation.get("bbox") or [None] * 4)
            of_image = as_text(annotation["image_id"])
            if of_image not in images:
                raise ValueError(f"no photograph has the id {of_image}")
            position, image = images[of_image]
            where = f"images[{position}]"
            yield AnnotatedPerson(
                person_id(annotation, number, image),
                image["file_name"],
                points_px,
                visibility.astype(np.uint8),
                np.array([left, top, left + width, top + height]) - 0.5,
                subset,
                size_of(image),
                image.get("convpose_upright"),
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(
            f"{file}: {where} is not as expected ({reason}): images with id, file_name, width and "
            "height; annotations with id, image_id, category_id, keypoints [x, y, v, …] and bbox "
            f"[left, top, width, height]; {_REMEDY}"
        ) from error


def as_text(value: Any) -> str:
    """Write an id as text: some tools have "1" in one table and 1 in another."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def is_set(value: Any) -> bool:
    """Tell if a flag is 1 or true, as a number or a text."""
    return as_text(value).lower() in ("1", "true")


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def size_of(image: dict[str, Any]) -> tuple[int, int] | None:
    """Read width and height; None where one is missing, null, 0 or no whole number."""
    try:
        width, height = float(image["width"]), float(image["height"])
    except (KeyError, TypeError, ValueError):
        return None
    whole = width.is_integer() and height.is_integer() and width > 0 and height > 0
    return (int(width), int(height)) if whole else None


def write_coco(annotations: Sequence[Annotation], skeleton: Skeleton, path: Path) -> None:
    """Write a COCO keypoints file, whole or not at all.

    Args:
        annotations: of any source.
        skeleton: names their keypoints and limbs.
        path: file to write; its folder is made.
    """
    files.write(path, json.dumps(coco(annotations, skeleton)))


def coco(annotations: Sequence[Annotation], skeleton: Skeleton) -> dict[str, Any]:
    """Make the content of a COCO keypoints file, which `CocoSource` reads back as it was.

    A person without a file, such as a synthetic one, gets ``ID.png``. The box is the data set's
    own, or that of the labelled joints. Limbs are COCO's ``skeleton``, numbered from 1.
    """
    images: dict[tuple[str, str], dict[str, Any]] = {}
    people = []
    for number, a in enumerate(annotations, start=1):
        file = a.file or f"{a.image_id}.png"
        image = images.setdefault(
            (a.dataset, file),
            {"id": len(images) + 1, "file_name": file, "width": a.width_px, "height": a.height_px}
            | ({} if a.upright is None else {"convpose_upright": a.upright}),
        )
        left, top, right, bottom = np.nan_to_num(a.extent_px).tolist()
        people.append(
            {
                "id": number,
                "image_id": image["id"],
                "category_id": 1,
                "convpose_id": a.image_id,
                "keypoints": _flat(a),
                "num_keypoints": int(a.labelled.sum()),
                "bbox": [left + 0.5, top + 0.5, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                "iscrowd": 0,
            }
        )
    person = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(skeleton.keypoints),
        "skeleton": [[skeleton.index(a) + 1, skeleton.index(b) + 1] for a, b in skeleton.limbs],
    }
    names = ", ".join(dict.fromkeys(a.dataset for a in annotations))
    return {
        "info": {"description": f"{names}, {skeleton.name}, written by convpose"},
        "licenses": [],
        "images": list(images.values()),
        "annotations": people,
        "categories": [person],
    }


def _flat(annotation: Annotation) -> list[float]:
    """List x, y, v of every keypoint, zeros if unlabelled, in the shortest digits of float32."""
    flat: list[float] = []
    for (x, y), v in zip(annotation.keypoints_px, annotation.visibility, strict=True):
        flat += [float(str(x)), float(str(y)), int(v)] if v else [0, 0, 0]
    return flat
