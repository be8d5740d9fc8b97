"""Ground truth of a subset as its COCO file has it, for the measures of `convpose.evaluate.oks`.

Crowds and people without joints are there, to be ignored; people whom ``min_joints`` leaves out
count as not found. A joint that the network does not know is unlabelled for everybody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convpose.data.coco import as_text, is_set, person_id, read_tables
from convpose.data.reading import renamed
from convpose.evaluate.predictions import Predictions
from convpose.skeleton import SIGMA, Skeleton, counterparts


@dataclass(frozen=True)
class CocoTruth:
    """Holds the ground truth of a subset as its COCO file has it.

    Attributes:
        file: its path.
        content: of a COCO file that has this subset alone.
        people: id of the photograph of each person, by `Annotation.image_id`.
        rows: (J,) number of the network's keypoint for each of the file's joints, −1 for none.
        sigmas: (J,) of OKS.
    """

    file: str
    content: dict[str, list[dict[str, Any]]]
    people: dict[str, Any]
    rows: list[int]
    sigmas: list[float]

    @property
    def num_people(self) -> int:
        """Count the people who have to be found."""
        listed = self.content["annotations"]
        return sum(a["num_keypoints"] > 0 and not a["iscrowd"] for a in listed)

    def results(
        self, photos: Sequence[Any], found: Predictions, boxes: Sequence[float] | None = None
    ) -> list[dict[str, Any]]:
        """Write N people as results.

        Args:
            photos: N ids of photographs.
            found: keypoints (N, K, 2) in pixels of the photographs.
            boxes: N scores of the boxes; None for 1.
        """
        points_px = found.keypoints_px.astype(np.float64)
        scores = np.ones(points_px.shape[:2]) if found.scores is None else found.scores
        rows, known = np.array(self.rows), np.array(self.rows) >= 0
        # unknown joints lie in the middle: at 0, 0 the person would count as larger
        middle_px = points_px.mean(axis=1, keepdims=True)
        joints_px = np.where(known[:, None], points_px[:, rows], middle_px)
        of_joints = np.where(known, scores[:, rows], 0.0)[..., None]
        triples = np.concatenate([joints_px, of_joints], axis=2).reshape(len(points_px), -1)
        of_people = scores.mean(axis=1) * (1.0 if boxes is None else np.array(boxes))
        return [
            {
                "image_id": photo,
                "category_id": self.content["categories"][0]["id"],
                "keypoints": triple.round(3).tolist(),
                "score": round(float(score), 6),
            }
            for photo, triple, score in zip(photos, triples, of_people, strict=True)
        ]


def read_truth(
    file: str,
    content: bytes,
    keys: Mapping[str, Any],
    skeleton: Skeleton,
    own: set[str],
    others: set[str],
) -> CocoTruth:
    """Read the ground truth of people by their ids.

    Args:
        file: path, for messages.
        content: of the file.
        keys: arguments of the `CocoSource`.
        skeleton: of the network.
        own: ids of the subset.
        others: ids of the other subsets. Without any, photographs without people belong to it.
    """
    tables, category = read_tables(file, content, keys.get("category"))
    joints = renamed(list(map(str, category["keypoints"])), keys.get("names") or {}, skeleton)
    rows = [-1] * len(joints)
    for row, joint in enumerate(counterparts(joints, skeleton)):
        if joint >= 0:
            rows[joint] = row
    images = {as_text(image["id"]): image for image in tables["images"]}
    people, listed, whose = {}, [], {True: set[str](), False: set[str]()}
    for number, annotation in enumerate(tables["annotations"]):
        if as_text(annotation.get("category_id", category["id"])) == as_text(category["id"]):
            photo = as_text(annotation["image_id"])
            who = person_id(annotation, number, images[photo])
            people[who] = images[photo]["id"]
            listed.append((photo, annotation))
            if who in own or who in others:
                whose[who in own].add(photo)
    shown = whose[True] if whose[False] else images.keys()
    known = np.array(rows) >= 0
    subset = {
        "images": [image for photo, image in images.items() if photo in shown],
        "annotations": [
            # numbered from 1: to pycocotools 0 means not found
            {
                "id": number,
                "image_id": images[photo]["id"],
                "category_id": category["id"],
                **_labels(annotation, known),
            }
            for number, (photo, annotation) in enumerate(listed, start=1)
            if photo in shown
        ],
        "categories": [category],
    }
    sigmas = [skeleton.oks_sigmas[row] if row >= 0 else SIGMA for row in rows]
    return CocoTruth(file, subset, people, rows, sigmas)


def _labels(annotation: Mapping[str, Any], known: NDArray[np.bool_]) -> dict[str, Any]:
    """Write joints, box and area of an annotation; a file without areas gets those of boxes."""
    values = np.array(annotation.get("keypoints") or np.zeros(3 * len(known)), dtype=np.float64)
    values = np.nan_to_num(values).reshape(-1, 3)
    values[~known] = 0
    labelled = values[:, 2] > 0
    box = annotation.get("bbox")
    if not box:
        points = values[labelled, :2] if labelled.any() else np.zeros((1, 2))
        box = [*points.min(axis=0).tolist(), *np.ptp(points, axis=0).tolist()]
    return {
        "keypoints": values.ravel().tolist(),
        "num_keypoints": int(labelled.sum()),
        "bbox": box,
        "area": annotation.get("area") or box[2] * box[3],
        "iscrowd": int(is_set(annotation.get("iscrowd"))),
    }
