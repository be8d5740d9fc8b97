"""What is written about people: plain values, by frame for JSON, by person for tables and COCO."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convpose.inference.people import Person
from convpose.inference.sources import Frame, base_name
from convpose.skeleton import Skeleton

PERSON_CATEGORY = 1  # COCO's
DIGITS = 4  # a ten-thousandth of a pixel, which is about what float32 holds of a large picture


def frame_record(frame: Frame, people: Sequence[Person]) -> dict[str, Any]:
    """A frame with its people, for ``keypoints.json``."""
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
    """COCO keypoint results, x, y and score of the skeleton's own keypoints in their order.

    The image's id is its number where its name is one, as COCO's are, else its stem; in a clip the
    stem and the frame.
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
    """Of a table: where, who, box, then x, y and score of every keypoint by name."""
    head = ["image", "frame", "time_s", "id", "score", "x0", "y0", "x1", "y1"]
    return head + [f"{name}_{what}" for name in skeleton.keypoints for what in ("x", "y", "score")]


def rows(frame: Frame, people: Sequence[Person], skeleton: Skeleton) -> list[dict[str, Any]]:
    """One row of a table a person; None where there is nothing to say."""
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
