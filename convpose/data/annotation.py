"""One person of a data set: as a file describes them, in the joints asked for, and as a sample.

Visibility follows COCO: 0 unlabelled, 1 labelled but occluded, 2 labelled and visible.
Coordinates of unlabelled keypoints are NaN from the reader to the metric, so that a loss, crop box
or metric that forgets the mask fails loudly instead of learning garbage.

Labels that cannot be are refused; those that are hardly meant, placeholders and boxes by corners,
are described.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from convpose.errors import DataError
from convpose.geometry import Affine, Image
from convpose.skeleton import Skeleton

if TYPE_CHECKING:  # a reader of annotations needs no torch
    import torch

FARTHEST_PX = 1e6  # no photograph is so large; 1e39 would be infinite as float32
_OTHER_FORM = "are they x0, y0, x1, y1 in place of x, y, width, height?"
FEW, OFTEN, OFTEN_SHARE = 3, 5, 0.05  # people with a joint at one point who make a placeholder


@dataclass(frozen=True, slots=True, eq=False)
class AnnotatedPerson:
    """One person as a file describes them.

    Attributes:
        image_id: unique id; ``STEM_NUMBER``, so that it does not depend on who else is there.
        file: name of the photograph in the annotation file.
        points_px: (J, 2) in pixels with centres at integers; any number if unlabelled.
        visibility: (J,) of 0, 1, 2.
        box_px: (4,) edges of the person's box; None or not finite if there is none.
        subset: ``train``, ``val``, ``test`` or None.
        size_px: width and height; None reads them from the photograph's header.
        upright: whether the points belong to the photograph turned as EXIF says; None if the file
            does not tell.
        head_px: diagonal of the head's box, of which PCKh takes a part; None if there is none.
    """

    image_id: str
    file: str
    points_px: NDArray[np.float64]
    visibility: NDArray[np.uint8]
    box_px: NDArray[np.float64] | None = None
    subset: str | None = None
    size_px: tuple[int, int] | None = None
    upright: bool | None = None
    head_px: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Annotation:
    """One annotated person in one image.

    Attributes:
        image_id: unique over all data sets: the file stem (LSP ``im0001``, LSPET ``im00001``),
            with a number behind it where an image may show several people (``000000123456_789``).
        dataset: name of the data set it comes from.
        width_px, height_px: size of the image.
        keypoints_px: (K, 2) float32 in pixels of the image, NaN where unlabelled.
        visibility: (K,) uint8 of 0, 1, 2.
        box_px: (4,) left, top, right and bottom edge of the person if the data set gives them.
        file: name of the image in its source. People of one image stay on one side of a split.
        subset: ``train``, ``val`` or ``test`` if the data set's makers say so.
        upright: whether the pixels are those of the image turned as EXIF says, or as stored
            (False); None where that is the same or not known.
        head_px: diagonal of the head's box if the data set gives it (MPII).
    """

    image_id: str
    dataset: str
    width_px: int
    height_px: int
    keypoints_px: NDArray[np.float32]
    visibility: NDArray[np.uint8]
    box_px: NDArray[np.float64] | None = None
    file: str | None = None
    subset: str | None = None
    upright: bool | None = None
    head_px: float | None = None

    @property
    def extent_px(self) -> NDArray[np.float64]:
        """Return the edges (4,) of the box, else of the labelled keypoints; NaN without any."""
        if self.box_px is not None:
            return self.box_px
        joints = self.keypoints_px[self.labelled].astype(np.float64)
        joints = joints if len(joints) else np.full((1, 2), np.nan)
        return np.concatenate([joints.min(axis=0), joints.max(axis=0)])

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Return the mask (K,) of the labelled keypoints, visible or not."""
        return self.visibility > 0


class PoseSource(Protocol):
    """Annotations and their pixels: an archive, a crop cache, a generator or several joined."""

    @property
    def annotations(self) -> Sequence[Annotation]:
        """List all annotations in a fixed order."""
        ...

    def read_image(self, index: int) -> tuple[Image, Affine]:
        """Read the pixels that belong to ``annotations[index]``.

        Returns:
            (H, W, 3) uint8 RGB and the (2, 3) affine from its pixels to the pixels of the image
            file (the identity unless the source stores crops).
        """
        ...


class JoinedSource:
    """Several sources one after the other; ids must stay unique."""

    def __init__(self, sources: Sequence[PoseSource]) -> None:
        self.sources = list(sources)
        self.annotations: Sequence[Annotation] = [a for s in sources for a in s.annotations]
        self.notes, self.doubts = (
            [said for source in sources for said in getattr(source, what, ())]
            for what in ("notes", "doubts")
        )
        self._starts = np.cumsum([0, *(len(s.annotations) for s in sources)])

    def read_image(self, index: int) -> tuple[Image, Affine]:
        """Read an image of the source that has it; see `PoseSource.read_image`."""
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self.sources[number].read_image(index - int(self._starts[number]))


class PoseSample(TypedDict):
    """One sample, or one batch after collation (then with a leading B, and ids as a list).

    Keys:
        image: (3, S, S) uint8 RGB crop.
        keypoints: (K, 2) float32 unit coordinates of the crop, NaN where unlabelled.
        visibility: (K,) int64 of 0, 1, 2.
        keypoints_px: (K, 2) float32 ground truth in pixels of the image file, NaN where unlabelled.
        unit_to_px: (2, 3) float32, crop unit coordinates to pixels of the image file.
        box_px: (4,) float32 edges of the person's box, else of the labelled keypoints.
        image_id: the annotation's id.
    """

    image: "torch.Tensor"
    keypoints: "torch.Tensor"
    visibility: "torch.Tensor"
    keypoints_px: "torch.Tensor"
    unit_to_px: "torch.Tensor"
    box_px: "torch.Tensor"
    image_id: str


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


def mapped(
    people: Sequence[AnnotatedPerson], index: NDArray[np.int64], min_joints: int
) -> list[AnnotatedPerson]:
    """Map people to the joints of a skeleton; keep those with enough of them.

    Args:
        people: as the files describe them.
        index: (K,) number of the file's joint for each of the skeleton's; negative for none.
        min_joints: fewest labelled joints of the skeleton.

    Returns:
        People with (K, 2) points, NaN where unlabelled.
    """
    if not people:
        return []
    points_px = np.stack([person.points_px for person in people])
    visibility = np.stack([person.visibility for person in people])
    visibility[~np.isfinite(points_px).all(axis=2)] = 0
    points_px[visibility == 0] = np.nan
    there = index >= 0
    enough = np.count_nonzero(visibility[:, index[there]], axis=1) >= min_joints
    kept = []
    for i, person in enumerate(people):
        if not enough[i]:
            continue
        own = person.box_px
        if own is None or not (np.isfinite(own).all() and (own[2:] > own[:2]).all()):
            own = None
        unused = np.delete(visibility[i], index[there])
        if own is None and unused.any():
            low, high = np.nanmin(points_px[i], axis=0), np.nanmax(points_px[i], axis=0)
            own = np.concatenate([low, high]) if (high > low).all() else None
        mapped_px = np.where(there[:, None], points_px[i, index], np.nan)
        mapped = np.where(there, visibility[i, index], 0)
        kept.append(replace(person, points_px=mapped_px, visibility=mapped, box_px=own))
    return kept
