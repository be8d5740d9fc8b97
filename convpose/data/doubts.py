"""Find labels that cannot be or are hardly meant, and say which joints a data set has.

Hardly meant are placeholders, and boxes by corners.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from convpose.data.annotation import Annotation
from convpose.errors import DataError
from convpose.skeleton import Skeleton

FARTHEST_PX = 1e6  # no photograph is so large; 1e39 would be infinite as float32
_OTHER_FORM = "are they x0, y0, x1, y1 in place of x, y, width, height?"
FEW, OFTEN, OFTEN_SHARE = 3, 5, 0.05  # people with a joint at one point who make a placeholder


def check_reach(
    file: str,
    ids: Sequence[str],
    keypoints: Sequence[str],
    points_px: NDArray[np.float64],
    visibility: NDArray[np.uint8],
) -> None:
    """Refuse labelled points, (N, K, 2) and (N, K), that lie where no photograph is.

    Raises:
        DataError: a labelled coordinate is infinite or beyond `FARTHEST_PX`.
    """
    far = np.argwhere((np.abs(points_px) > FARTHEST_PX).any(axis=-1) & (visibility > 0))
    for i, k in far:
        x, y = points_px[i, k]
        raise DataError(
            f"{file}: {keypoints[k]} of {ids[i]} lies at ({x:g}, {y:g}), where no photograph is "
            f"({len(far)} such in the file); correct it, or leave it unlabelled"
        )


def find_doubts(
    annotations: Sequence[Annotation], keypoints: Sequence[str], boxes_reach_out: bool = False
) -> list[str]:
    """Describe labels that are hardly meant, one line a kind; empty if there are none.

    Args:
        annotations: of one data set, at least one.
        keypoints: K names.
        boxes_reach_out: its boxes may reach beyond the photograph.
    """
    points_px = np.stack([a.keypoints_px for a in annotations]).astype(np.float64)
    heaps: list[str] = []
    beyond: list[str] = []
    empty: list[str] = []
    for a, points in zip(annotations, points_px, strict=True):
        points = points[a.labelled]
        if len(points) > 2 * len(np.unique(points, axis=0)):
            heaps.append(a.image_id)
        if a.box_px is None:
            continue
        low, high, size_px = a.box_px[:2], a.box_px[2:], np.array([a.width_px, a.height_px])
        if not boxes_reach_out and (np.maximum(-low, high - size_px) > 0.05 * size_px).any():
            beyond.append(a.image_id)
        elif 2 * np.count_nonzero(((points >= low) & (points <= high)).all(axis=1)) < len(points):
            empty.append(a.image_id)
    name = annotations[0].dataset
    kinds = (
        ("labelled keypoints at a placeholder", _placeholders(points_px, keypoints)),
        ("people whose keypoints lie on top of each other", heaps),
        (f"boxes that reach beyond their photograph ({_OTHER_FORM})", beyond),
        ("boxes that hold less than half of their person's joints", empty),
    )
    return [f"{name}: {listed(kind, found)}" for kind, found in kinds if found]


def _placeholders(points_px: NDArray[np.float64], keypoints: Sequence[str]) -> list[str]:
    """Find joints that lie at the origin, or that many people have at the same point."""
    found = []
    for name, points in zip(keypoints, points_px.swapaxes(0, 1), strict=True):
        points = points[np.isfinite(points).all(axis=1)]
        values, counts = np.unique(points, axis=0, return_counts=True)
        origin = np.isin(values, (0, -1)).all(axis=1)  # -1: the 0 of files whose first pixel is 1
        least = max(OFTEN, OFTEN_SHARE * len(points))  # or all of at least a few
        often = counts >= max(FEW, min(least, len(points)))
        for (x, y), count in zip(values[origin | often], counts[origin | often], strict=True):
            found.append(f"{name} lies at ({x:g}, {y:g}) in {count} of {len(points)} annotations")
    return found


def listed(kind: str, items: Sequence[str], limit: int = 8) -> str:
    """Name a kind, the number of its items and the first of them."""
    rest = len(items) - limit
    more = f" and {rest} more" if rest > 0 else ""
    return f"{kind}: {len(items)} ({', '.join(items[:limit])}{more})"


def joint_notes(
    name: str,
    joints: Sequence[str],
    target: Skeleton,
    index: NDArray[np.int64],
    left_out: Counter[str],
) -> list[str]:
    """Say in sentences what was left out, renamed, masked and not used."""
    masked = [keypoint for keypoint, i in zip(target.keypoints, index, strict=True) if i < 0]
    unused = [joint for i, joint in enumerate(joints) if i not in index]
    called = zip(target.keypoints, index, strict=True)
    same = [f"{joints[i]} is the {k}" for k, i in called if i >= 0 and joints[i] != k]
    notes = [f"{name}: {n:,} people left out {why}" for why, n in left_out.items() if n]
    if same:
        notes.append(f"{name}: {', '.join(same)} of {target.name}")
    if masked:
        notes.append(f"{name}: no counterpart, so masked: {', '.join(masked)}")
    if unused:
        notes.append(f"{name}: not in {target.name}, so not used: {', '.join(unused)}")
    return notes
