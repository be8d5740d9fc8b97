"""Crop: the region of the image that the network sees.

The crop is an affine ``unit_to_px``; `convpose.geometry.warp` samples it. Three modes:

- ``image``: the whole frame stretched to the square input, as the paper did;
- ``letterbox``: the whole frame, padded to a square;
- ``box``: a square around the person, `box_scale` times as large: around the data set's own box
  where it gives one (COCO, MPII), else around the labelled joints.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Lt
from numpy.typing import NDArray

from convpose.data.annotation import Annotation
from convpose.errors import ConfigError, DataError
from convpose.geometry import Affine, box_to_affine

Mode = Literal["image", "letterbox", "box"]
Size = tuple[int, int]  # width, height
Scale = Annotated[float, Ge(1), Lt(math.inf), "a smaller crop would cut joints off"]
# chosen on validation images, see experiments/019-looks
TRUSTED = 0.3  # score of a keypoint that a box is placed around
LEAST_TRUSTED = 3  # keypoints; a box of fewer would cut a person off
LEAST_SIDE = 0.1  # of the frame's longer side; a smaller box is no person


class Crop:
    """Choice of the crop of each annotation.

    Args:
        mode: a crop mode, or one for each data set by name (``{lsp: image, lspet: box}``).
        box_scale: side of the ``box`` crop as a multiple of the longer side of the joints' box.
    """

    def __init__(self, mode: Mode | Mapping[str, Mode], box_scale: Scale = 1.25) -> None:
        self.mode = mode if isinstance(mode, str) else dict(mode)
        self.box_scale = box_scale

    def __str__(self) -> str:
        """Write the mode as a short text for reports."""
        if isinstance(self.mode, str):
            return self.mode
        return "+".join(f"{name}:{mode}" for name, mode in self.mode.items())

    def mode_of(self, annotation: Annotation) -> str:
        """Look up the crop mode of an annotation's data set; ConfigError if there is none."""
        if isinstance(self.mode, str):
            return self.mode
        if annotation.dataset not in self.mode:
            raise ConfigError(
                f"data.crop names {', '.join(self.mode)} but not {annotation.dataset}; "
                f"type +data.crop.{annotation.dataset}=image or one crop for all, data.crop=image"
            )
        return self.mode[annotation.dataset]

    def unit_to_px(self, annotation: Annotation) -> Affine:
        """Compute the (2, 3) affine from the crop's unit square to pixels of the image."""
        mode = self.mode_of(annotation)
        if mode == "box":
            return around_box(*person_box_px(annotation), self.box_scale)
        return whole_frame(mode, annotation.width_px, annotation.height_px)


def whole_frame(mode: str, width_px: int, height_px: int) -> Affine:
    """Compute ``unit_to_px`` of a whole frame, stretched (``image``) or padded (``letterbox``)."""
    if mode == "image":
        return box_to_affine(np.array([-0.5, -0.5, width_px - 0.5, height_px - 0.5]))
    centre = np.array([(width_px - 1) / 2, (height_px - 1) / 2])
    return box_to_affine(square(centre, max(width_px, height_px)))


def around_box(low: NDArray[np.float64], high: NDArray[np.float64], scale: float) -> Affine:
    """Compute ``unit_to_px`` of a square around a box (corners (2,)), `scale` times as large."""
    return box_to_affine(square((low + high) / 2, scale * max(high - low)))


def square(centre: NDArray[np.float64], side: float) -> NDArray[np.float64]:
    """Make the box (x0, y0, x1, y1) of a square."""
    return np.concatenate([centre - side / 2, centre + side / 2])


def person_box_px(annotation: Annotation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return corners (2,), (2,) of the data set's box, or `joints_box_px` if there is none."""
    if annotation.box_px is None:
        return joints_box_px(annotation)
    return annotation.box_px[:2], annotation.box_px[2:]


def found_box_px(
    keypoints_px: NDArray[np.floating[Any]], scores: NDArray[np.floating[Any]], size_px: Size
) -> NDArray[np.float64] | None:
    """Place a box around the keypoints that were found in a frame, for a second, closer look.

    Args:
        keypoints_px: (K, 2) in pixels of the frame.
        scores: (K,) probability of each to be right; those below `TRUSTED` do not count.
        size_px: width and height of the frame, to which the box is clipped.

    Returns:
        (4,) x0, y0, x1, y1; None where too few are trusted, or they lie in one place.
    """
    trusted = keypoints_px[scores >= TRUSTED].astype(np.float64)
    if len(trusted) < LEAST_TRUSTED:
        return None
    inside = trusted.clip(-0.5, np.array(size_px) - 0.5)
    low, high = inside.min(axis=0), inside.max(axis=0)
    if max(high - low) < LEAST_SIDE * max(size_px):
        return None
    return np.concatenate([low, high])


def joints_box_px(annotation: Annotation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute corners (2,), (2,) of the tight box around the labelled joints.

    Raises:
        DataError: fewer than two labelled joints, or all in one place.
    """
    joints = annotation.keypoints_px[annotation.labelled].astype(np.float64)
    if len(joints) < 2 or np.ptp(joints, axis=0).max() <= 0:
        raise DataError(
            f"{annotation.image_id}: {len(joints)} labelled joints span no box; "
            "leave the image out or use the whole frame with data.crop=image"
        )
    return joints.min(axis=0), joints.max(axis=0)
