"""Export of annotations as COCO keypoints, so that other tools can read any data set.

`convpose.data.coco.CocoSource` reads the file back to the same annotations: ``convpose_id`` keeps
the ids, which COCO would have as numbers, and ``convpose_upright`` says if the pixels are those of
the photograph turned as EXIF says.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convpose import files
from convpose.data.annotation import Annotation
from convpose.skeleton import Skeleton


def write_coco(annotations: Sequence[Annotation], skeleton: Skeleton, path: Path) -> None:
    """Write a COCO keypoints file, whole or not at all.

    Args:
        annotations: of any source.
        skeleton: names their keypoints and limbs.
        path: file to write; its folder is made.
    """
    files.write(path, json.dumps(coco(annotations, skeleton)))


def coco(annotations: Sequence[Annotation], skeleton: Skeleton) -> dict[str, Any]:
    """Make the content of a COCO keypoints file; `convpose.data.coco` describes its coordinates.

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
