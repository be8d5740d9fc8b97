"""Define the coordinate convention and the algebra of 2×3 affines.

A point is ``(x, y)``. There are two coordinate systems, and the names of variables say which:

- ``_px``: pixels of the image file, pixel centres at integers, so that an image of width W spans
  −0.5 … W−0.5 (the convention of ``cv2.warpAffine``).
- unit (no suffix): fraction of the crop, ``u = (x_crop + 0.5) / width``. 0 and 1 are the crop's
  edges, points outside are legal. A mirror is exactly ``1 − u``; cell i of an S-wide heatmap sits
  at ``(i + 0.5) / S``; ``grid_sample`` wants ``2u − 1`` with ``align_corners=False``.

An affine is a (2, 3) array M that maps ``p`` to ``M[:, :2] @ p + M[:, 2]``; ``unit_to_px`` names
its direction. Batches are (..., 2, 3). `transform` serves NumPy arrays and torch tensors alike.
"""

import math
from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # arrays alone need no torch, whose import takes seconds
    import torch

Affine = NDArray[np.float64]
Image = NDArray[np.uint8]
Points = TypeVar("Points", NDArray[np.float64], NDArray[np.float32], "torch.Tensor")


def identity() -> Affine:
    """Return the (2, 3) affine that changes nothing."""
    return np.eye(2, 3)


def compose(outer: Affine, inner: Affine) -> Affine:
    """Return the (2, 3) affine that applies `inner` first, then `outer`."""
    linear = outer[:, :2] @ inner[:, :2]
    shift = outer[:, :2] @ inner[:, 2] + outer[:, 2]
    return np.concatenate([linear, shift[:, None]], axis=1)


def invert(affine: Affine) -> Affine:
    """Invert a (2, 3) affine; numpy.linalg.LinAlgError if it is singular."""
    linear = np.linalg.inv(affine[:, :2])
    return np.concatenate([linear, -(linear @ affine[:, 2])[:, None]], axis=1)


def transform(affine: Points, points: Points) -> Points:
    """Apply affines (..., 2, 3) to points (..., K, 2), arrays or tensors; NaN stays NaN.

    Not a matrix product, which would lose half a pixel under bf16 autocast.
    """
    moved: Points = (affine[..., None, :, :2] * points[..., None, :]).sum(-1)
    return moved + affine[..., None, :, 2]


def box_to_affine(box_px: NDArray[np.float64]) -> Affine:
    """Return ``unit_to_px`` of a box (x0, y0, x1, y1), given by its edges in pixels."""
    x0, y0, x1, y1 = box_px
    return np.array([[x1 - x0, 0.0, x0], [0.0, y1 - y0, y0]])


def similarity(
    centre_px: tuple[float, float],
    scale: float = 1.0,
    rotation_deg: float = 0.0,
    shift_px: tuple[float, float] = (0.0, 0.0),
) -> Affine:
    """Return the similarity that scales, rotates (clockwise on screen) and shifts."""
    angle = math.radians(rotation_deg)
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    linear = np.array([[cos, -sin], [sin, cos]])
    centre = np.asarray(centre_px, dtype=np.float64)
    offset = centre + np.asarray(shift_px) - linear @ centre
    return np.concatenate([linear, offset[:, None]], axis=1)


def warp(image: Image, unit_to_px: Affine, size_px: int) -> Image:
    """Sample a square crop from an image, bilinear; it is grey (114) outside the image.

    Shrinking by two or more first halves the image by area averaging, as often as needed, so that
    no source pixel is skipped (no aliasing).

    Args:
        image: (H, W, 3) uint8.
        unit_to_px: (2, 3), crop unit coordinates to pixels of `image`.
        size_px: side of the crop.

    Returns:
        (size_px, size_px, 3) uint8.
    """
    to_px = compose(unit_to_px, pixel_to_unit(size_px))
    step = math.sqrt(abs(np.linalg.det(to_px[:, :2])))  # source pixels per crop pixel
    while step >= 2.0 and min(image.shape[:2]) >= 2:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        halved = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        sx, sy = width / image.shape[1], height / image.shape[0]
        shrink = np.array([[sx, 0.0, 0.5 * sx - 0.5], [0.0, sy, 0.5 * sy - 0.5]])
        image, to_px, step = np.asarray(halved, dtype=np.uint8), compose(shrink, to_px), step / 2
    warped = cv2.warpAffine(
        image,
        to_px,
        (size_px, size_px),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(114, 114, 114),
    )
    return np.asarray(warped, dtype=np.uint8)


def pixel_to_unit(size_px: int) -> Affine:
    """Return the affine from pixels of a crop (centres at integers) to unit coordinates."""
    s = 1.0 / size_px
    return np.array([[s, 0.0, 0.5 * s], [0.0, s, 0.5 * s]])
