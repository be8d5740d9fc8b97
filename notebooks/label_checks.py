"""Check labels by geometry: impossible bodies, exchanged sides, two labellings of one photograph.

On the synthetic people, whose labels are exact, every check finds nothing or almost nothing. No
check finds all wrong labels, and each marks a few people who are very near or in a contortion. So
use the numbers to look at people and compare data sets, not to delete labels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convpose.skeleton import SIDES, Skeleton

Points = NDArray[np.floating]

# Lengths as shares of the body's height (Drillis and Contini, 1966; Winter, Biomechanics and Motor
# Control of Human Movement, table 4.1). Head: neck to its top.
_HEIGHTS = {
    **{f"{s} upper arm": (f"{s}_shoulder", f"{s}_elbow", 0.186) for s in SIDES},
    **{f"{s} forearm": (f"{s}_elbow", f"{s}_wrist", 0.146) for s in SIDES},
    **{f"{s} thigh": (f"{s}_hip", f"{s}_knee", 0.245) for s in SIDES},
    **{f"{s} shin": (f"{s}_knee", f"{s}_ankle", 0.246) for s in SIDES},
    **{f"{s} flank": (f"{s}_hip", f"{s}_shoulder", 0.288) for s in SIDES},
    "shoulders": ("left_shoulder", "right_shoulder", 0.259),
    "hips": ("left_hip", "right_hip", 0.191),
    "head": ("neck", "head_top", 0.182),
}


def stretch(keypoints_px: Points, skeleton: Skeleton) -> tuple[NDArray[np.float64], list[str]]:
    """Compare the longest bone of each person with the others.

    A bone may look shorter in an image than it is, never longer. So each bone implies a least
    height of the body. The ratio is the largest of these heights over the third largest. Exact
    labels stay below 1.3; beyond 1.5 a label is doubtful, and 2 needs an extreme perspective.

    Args:
        keypoints_px: (N, K, 2), NaN where unlabelled.
        skeleton: names the joints.

    Returns:
        (N,) ratios from 1 up, NaN with fewer than three bones; and the name of each longest bone.
    """
    bones = {n: b for n, b in _HEIGHTS.items() if {b[0], b[1]} <= set(skeleton.keypoints)}
    heights = np.stack(
        [
            np.linalg.norm(
                _joint(keypoints_px, skeleton, a) - _joint(keypoints_px, skeleton, b), axis=-1
            )
            / length
            for a, b, length in bones.values()
        ],
        axis=1,
    )
    known = np.where(np.isnan(heights), 0.0, heights)
    third = np.sort(known, axis=1)[:, -3]
    ratio = np.divide(known.max(axis=1), third, out=np.full(len(known), np.nan), where=third > 0)
    return ratio, [list(bones)[i] for i in known.argmax(axis=1)]


def twist(keypoints_px: Points, skeleton: Skeleton) -> NDArray[np.float64]:
    """Compare the left side of the shoulders with that of the hips.

    Seen along the torso, left shoulder and left hip are on the same side, unless the body is
    twisted by more than 90°. If they are not, left and right are mostly exchanged in one pair.

    Args:
        keypoints_px: (N, K, 2), NaN where unlabelled.
        skeleton: names the joints.

    Returns:
        (N,) width of the narrower of the two pairs across the torso, in torso lengths; negative
        where they contradict, NaN where one of the four is unlabelled. Doubtful below −0.3.
    """
    left, right = (
        [_joint(keypoints_px, skeleton, f"{side}_{joint}") for joint in ("shoulder", "hip")]
        for side in SIDES
    )
    torso = (left[0] + right[0] - left[1] - right[1]) / 2
    across = np.stack([-torso[:, 1], torso[:, 0]], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        across /= (torso**2).sum(axis=1, keepdims=True)
    shoulders, hips = (((a - b) * across).sum(axis=1) for a, b in zip(left, right, strict=True))
    return np.asarray(np.sign(shoulders * hips) * np.minimum(np.abs(shoulders), np.abs(hips)))


@dataclass(frozen=True)
class Agreement:
    """Two labellings of one photograph, laid over each other.

    Attributes:
        distance: (K,) between them in torso diameters, NaN where one lacks a label.
        swapped: whether they fit better with left and right exchanged in one of them.
    """

    distance: NDArray[np.float64]
    swapped: bool


def agreement(first_px: Points, second_px: Points, skeleton: Skeleton) -> Agreement | None:
    """Compare two labellings (K, 2) of one person, in two files that may be cropped differently.

    Scale and shift between the files are medians over joints, so that a few wrong joints do not
    move the others. None if fewer than five joints are common, or neither labelled a torso.
    """
    scale, plain = _laid_over(first_px, second_px)
    _, mirrored = _laid_over(first_px[list(skeleton.mirror)], second_px)
    torsos = [
        size * float(np.linalg.norm(px[skeleton.index(a)] - px[skeleton.index(b)]))
        for px, size in ((second_px, 1.0), (first_px, scale))
        for a, b in skeleton.reference_pairs
    ]
    torso = next((size for size in torsos if size > 0), None)  # NaN is not
    if torso is None or np.isnan(plain).all():
        return None
    swapped = not np.isnan(mirrored).all() and np.nanmedian(mirrored) < np.nanmedian(plain)
    return Agreement(plain / torso, bool(swapped))


def _laid_over(first_px: Points, second_px: Points) -> tuple[float, NDArray[np.float64]]:
    """Return the scale that fits best, and the distances (K,) that remain; NaN if nothing fits."""
    common = ~np.isnan(first_px[:, 0]) & ~np.isnan(second_px[:, 0])
    if common.sum() < 5:
        return np.nan, np.full(len(common), np.nan)
    a, b = first_px[common].astype(np.float64), second_px[common].astype(np.float64)
    i, j = np.triu_indices(len(a), 1)
    between = [np.linalg.norm(points[i] - points[j], axis=1) for points in (a, b)]
    scale = float(np.median(between[1] / np.maximum(between[0], 1e-9)))
    shift = np.median(b - scale * a, axis=0)
    return scale, np.asarray(np.linalg.norm(scale * first_px + shift - second_px, axis=1))


def _joint(keypoints_px: Points, skeleton: Skeleton, name: str) -> Points:
    return keypoints_px[:, skeleton.index(name)].astype(np.float64)
