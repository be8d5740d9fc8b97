"""Describe frames and their people as records: of JSON, of COCO and of a table."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convpose.predict.predictor import Person
from convpose.predict.sources import Frame, base_name
from convpose.skeleton import Skeleton

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
