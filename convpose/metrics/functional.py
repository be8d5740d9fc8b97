"""Measures of single-person 2D pose as pure functions on tensors.

Each measure exists twice: as counts or sums per keypoint, which add up over batches and devices,
and as the ratio of those, which is the number one reports. Shapes: N images, K keypoints, S sticks,
T thresholds. Unlabelled ground truth (visibility 0) may be NaN: it is masked, never compared. A
prediction that is NaN misses, and makes EPE and MSE NaN. Everything is computed in float64, and a
ratio with nothing to count is NaN.

The definitions of PCK, AUC and PCP are those of bearpaw/eval_pose (``utils/eval_pck.m``,
``eval_pcp.m``, ``keypoints2sticks.m``), the protocol of the published LSP tables.
"""

import math
from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import binary_calibration_error

from convpose.skeleton import Skeleton

THRESHOLDS = tuple(step / 100 for step in range(21))  # 0, 0.01 … 0.2 of the torso
AT_10, AT_20 = THRESHOLDS.index(0.1), THRESHOLDS.index(0.2)
HIT = 0.2  # torso diameters, or other sizes, within which a keypoint counts as found
HEAD_SHARE = 0.6  # of the diagonal of the head's box
HEAD_THRESHOLDS = (0.5, 0.1)  # of PCKh
SCORE_BINS = 10  # of the calibration error

# A difference in [0, 1] doubles in [−1, 1]; a squared distance adds up its two coordinates.
MSE_SCALES = {"mse_unit": 1.0, "mse_pm1": 4.0, "mse_sq": 2.0}


class Reference(IntEnum):
    """Origin of the size by which an image's distances are divided."""

    MAIN = 0  # what the skeleton names first
    FALLBACK = 1  # another pair of keypoints, such as the other diagonal of the torso
    NONE = 2


def keypoint_distance(predicted: Tensor, keypoints: Tensor) -> Tensor:
    """Measure distances (N, K) in float64 between points (N, K, 2); NaN stays NaN."""
    if predicted.shape != keypoints.shape or predicted.shape[-1] != 2:
        raise ValueError(
            "predicted and true keypoints must both be (N, K, 2), "
            f"got {tuple(predicted.shape)} and {tuple(keypoints.shape)}"
        )
    difference = predicted.double() - keypoints.double()
    return difference.square().sum(dim=-1).sqrt()


def reference_size(
    keypoints_px: Tensor, visibility: Tensor, skeleton: Skeleton, box_px: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Measure the size of each person by which PCK and NME divide distances.

    What it is, ``skeleton.normaliser`` says: the distance of the first pair of keypoints that is
    labelled (LSP: left shoulder – right hip, else the other diagonal), the box's longer side or
    diagonal, or a number of pixels. However small a torso is, it is kept, as published protocols do
    (LSP has one of 2.6 px). A box without extent is none.

    Args:
        keypoints_px: (N, K, 2) ground truth in pixels.
        visibility: (N, K) of 0, 1, 2.
        skeleton: names the normaliser.
        box_px: (N, 4) edges of the people's boxes; None: around the labelled keypoints.

    Returns:
        (N,) float64 pixels, NaN where there is none, and (N,) int64 of `Reference`.
    """
    labelled = visibility > 0
    size = keypoints_px.new_full(visibility.shape[:1], torch.nan, dtype=torch.float64)
    kind = torch.full_like(size, int(Reference.NONE), dtype=torch.int64)
    if isinstance(skeleton.normaliser, float | int):
        return torch.full_like(size, skeleton.normaliser), torch.zeros_like(kind)
    for number, pair in reversed(list(enumerate(skeleton.reference_pairs))):
        a, b = (skeleton.index(name) for name in pair)
        has = labelled[:, a] & labelled[:, b]
        size = torch.where(has, keypoint_distance(keypoints_px[:, a], keypoints_px[:, b]), size)
        kind = torch.where(has, min(number, int(Reference.FALLBACK)), kind)
    if not skeleton.reference_pairs:
        if box_px is None:
            points = keypoints_px.double()
            low = points.masked_fill(~labelled[..., None], torch.inf).amin(dim=1)
            high = points.masked_fill(~labelled[..., None], -torch.inf).amax(dim=1)
            sides = high - low
        else:
            sides = box_px[:, 2:].double() - box_px[:, :2].double()
        longest, diagonal = sides.amax(dim=-1), sides.norm(dim=-1)
        extent = longest if skeleton.normaliser == "box_side" else diagonal
        known = (longest > 0) & longest.isfinite()
        size, kind = torch.where(known, extent, torch.nan), torch.where(known, 0, kind)
    return size, kind


def pck_counts(
    predicted_px: Tensor,
    keypoints_px: Tensor,
    visibility: Tensor,
    skeleton: Skeleton,
    thresholds: Sequence[float] = THRESHOLDS,
    box_px: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Count keypoints right at each threshold: ‖predicted − truth‖ ≤ threshold · size.

    The size is the torso diameter, or see `reference_size`. Counted are the labelled keypoints,
    visible or occluded, of images that have one.

    Returns:
        Hits (K, T) and counted keypoints (K,), int64.
    """
    size, kind = reference_size(keypoints_px, visibility, skeleton, box_px)
    counted = (visibility > 0) & (kind != Reference.NONE)[:, None]
    distance = keypoint_distance(predicted_px, keypoints_px)
    # One comparison per threshold keeps the thresholds on the host: no copy to the device.
    hits = [((distance <= t * size[:, None]) & counted).sum(dim=0) for t in thresholds]
    return torch.stack(hits, dim=-1), counted.sum(dim=0)


def pck_curve(
    predicted_px: Tensor,
    keypoints_px: Tensor,
    visibility: Tensor,
    skeleton: Skeleton,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Tensor:
    """Compute PCK in [0, 1] at each threshold, (T,), over all counted keypoints of all images."""
    hits, counted = pck_counts(predicted_px, keypoints_px, visibility, skeleton, thresholds)
    return hits.sum(dim=0).double() / counted.sum()


def pck(
    predicted_px: Tensor,
    keypoints_px: Tensor,
    visibility: Tensor,
    skeleton: Skeleton,
    threshold: float = 0.2,
) -> Tensor:
    """Compute the share of correct keypoints, PCK@threshold in [0, 1]; see `pck_counts`."""
    return pck_curve(predicted_px, keypoints_px, visibility, skeleton, (threshold,))[0]


def pckh_counts(
    predicted_px: Tensor,
    keypoints_px: Tensor,
    visibility: Tensor,
    head_px: Tensor,
    thresholds: Sequence[float] = HEAD_THRESHOLDS,
) -> tuple[Tensor, Tensor]:
    """Count keypoints as MPII does: ‖predicted − truth‖ ≤ threshold · 0.6 · diagonal of the head.

    Source: Andriluka et al., CVPR 2014; ``SC_BIAS`` and ``jnt_missing`` of Simple Baselines
    (``lib/dataset/mpii.py``).

    Args:
        predicted_px: (N, K, 2) in pixels.
        keypoints_px: (N, K, 2) ground truth in pixels.
        visibility: (N, K) of 0, 1, 2; occluded keypoints count.
        head_px: (N,) diagonals of the heads' boxes; images with NaN are left out.
        thresholds: T of them.

    Returns:
        Hits (K, T) and counted keypoints (K,), int64.
    """
    counted = (visibility > 0) & head_px.isfinite()[:, None]
    distance = keypoint_distance(predicted_px, keypoints_px)
    size = HEAD_SHARE * head_px.double()[:, None]
    hits = [((distance <= t * size) & counted).sum(dim=0) for t in thresholds]
    return torch.stack(hits, dim=-1), counted.sum(dim=0)


def auc(curve: Tensor, thresholds: Sequence[float] = THRESHOLDS) -> Tensor:
    """Integrate PCK curves (…, T): trapezoid rule, divided by the width of the thresholds.

    With the default thresholds that is the integral over 0 … 0.2 in steps of 0.01, divided by 0.2,
    so that a perfect prediction has 1.
    """
    at = torch.tensor(thresholds, dtype=torch.float64, device=curve.device)
    return torch.trapezoid(curve.double(), at, dim=-1) / (thresholds[-1] - thresholds[0])


def pck_values(curve: Tensor) -> dict[str, float]:
    """Read PCK@0.2, PCK@0.1 and AUC off a curve (T,) at the default thresholds."""
    return {
        "pck@0.2": float(curve[AT_20]),
        "pck@0.1": float(curve[AT_10]),
        "auc": float(auc(curve)),
    }


def stick_ends(keypoints_px: Tensor, skeleton: Skeleton) -> Tensor:
    """Locate both ends of every PCP stick, (N, S, 2, 2); an end is the mean of its keypoints."""

    def end(names: tuple[str, ...]) -> Tensor:
        points = [keypoints_px[:, skeleton.index(name)].double() for name in names]
        return torch.stack(points).mean(dim=0)

    sticks = [torch.stack([end(a), end(b)], dim=1) for a, b in (skeleton.sticks or {}).values()]
    nothing = keypoints_px.new_zeros((len(keypoints_px), 0, 2, 2), dtype=torch.float64)
    return torch.stack(sticks, dim=1) if sticks else nothing


def pcp_counts(
    predicted_px: Tensor,
    keypoints_px: Tensor,
    visibility: Tensor,
    skeleton: Skeleton,
    fraction: float = 0.5,
) -> tuple[Tensor, Tensor]:
    """Count sticks that are strictly right: both ends within `fraction` of the true length.

    A stick counts where all of its keypoints are labelled (the torso has four).

    Returns:
        Hits (S,) and counted sticks (S,), int64.
    """
    labelled_px = keypoints_px.masked_fill((visibility == 0)[..., None], torch.nan)
    truth = stick_ends(labelled_px, skeleton)
    error = torch.linalg.vector_norm(stick_ends(predicted_px, skeleton) - truth, dim=-1)
    length = torch.linalg.vector_norm(truth[:, :, 0] - truth[:, :, 1], dim=-1)
    counted = ~length.isnan()
    right = (error <= fraction * length[..., None]).all(dim=-1)
    return (right & counted).sum(dim=0), counted.sum(dim=0)


def pcp(
    predicted_px: Tensor,
    keypoints_px: Tensor,
    visibility: Tensor,
    skeleton: Skeleton,
    fraction: float = 0.5,
) -> Tensor:
    """Compute the share of correct parts, strict PCP@fraction in [0, 1], over all sticks."""
    hits, counted = pcp_counts(predicted_px, keypoints_px, visibility, skeleton, fraction)
    return hits.sum().double() / counted.sum()


def epe_sums(
    predicted_px: Tensor, keypoints_px: Tensor, visibility: Tensor
) -> tuple[Tensor, Tensor]:
    """Add up distances, (K,) float64 in pixels, and labelled keypoints, (K,) int64."""
    labelled = visibility > 0
    distance = keypoint_distance(predicted_px, keypoints_px)
    return torch.where(labelled, distance, 0.0).sum(dim=0), labelled.sum(dim=0)


def epe(predicted_px: Tensor, keypoints_px: Tensor, visibility: Tensor) -> Tensor:
    """Compute the end-point error: mean distance in pixels over all labelled keypoints."""
    total, counted = epe_sums(predicted_px, keypoints_px, visibility)
    return total.sum() / counted.sum()


def nme_sums(
    predicted_px: Tensor,
    keypoints_px: Tensor,
    visibility: Tensor,
    skeleton: Skeleton,
    box_px: Tensor | None = None,
) -> Tensor:
    """Add up distances over the person's size, (K,) float64; `pck_counts` counts the keypoints.

    Their mean is the normalised mean error, NME; see `reference_size` for the size.
    """
    size, kind = reference_size(keypoints_px, visibility, skeleton, box_px)
    counted = (visibility > 0) & (kind != Reference.NONE)[:, None]
    distance = keypoint_distance(predicted_px, keypoints_px) / size[:, None]
    return torch.where(counted, distance, 0.0).sum(dim=0)


def squared_sums(predicted: Tensor, keypoints: Tensor, visibility: Tensor) -> tuple[Tensor, Tensor]:
    """Add up squared distances, (K,) float64 in unit², and labelled keypoints, (K,) int64."""
    labelled = visibility > 0
    squared = keypoint_distance(predicted, keypoints).square()
    return torch.where(labelled, squared, 0.0).sum(dim=0), labelled.sum(dim=0)


def calibration_error(scores: NDArray[np.floating], hits: NDArray[np.bool_]) -> float:
    """Compute the expected calibration error of scores (Guo et al., 2017), over ten equal bins.

    Args:
        scores: (M,) in [0, 1].
        hits: (M,), true where the keypoint was found.

    Returns:
        Mean over the keypoints of |hit rate − mean score| of their bin; NaN without scores.
    """
    if len(scores) == 0:
        return math.nan
    given = torch.from_numpy(np.asarray(scores, np.float64)).clamp(max=1 - 1e-9)  # 1 has no bin
    found = torch.from_numpy(np.asarray(hits, np.int64))
    return float(binary_calibration_error(given, found, n_bins=SCORE_BINS, norm="l1"))
