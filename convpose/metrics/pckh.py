"""PCKh, the measure of MPII: distances in shares of the head's box."""

from collections.abc import Sequence

import torch
from torch import Tensor

from convpose.metrics.functional import keypoint_distance

HEAD_SHARE = 0.6  # of the diagonal of the head's box
HEAD_THRESHOLDS = (0.5, 0.1)  # of PCKh


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
