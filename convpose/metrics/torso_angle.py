"""Torso angle: how far people are from upright, and the measures of each range of it.

LSPET is gymnastics, parkour and climbing: 43 % of its people lean by more than 60° or are upside
down (of those whose torso is labelled). A total does not tell whether a network has learned that,
or only that heads are above feet.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from convpose.metrics.functional import epe_sums, pck_counts, pck_values
from convpose.skeleton import SIDES, TORSO, Skeleton

EDGES_DEG = (0, 30, 60, 120, 180)  # upright, leaning, lying, upside down
BINS = tuple(f"{low}-{high}" for low, high in pairwise(EDGES_DEG))
UNKNOWN = "unknown"  # a hip, or both a shoulder and the neck, is unlabelled


def torso_angle(keypoints_px: Tensor, visibility: Tensor, skeleton: Skeleton) -> Tensor:
    """Measure the angle of each torso to the vertical: 0° upright, 180° upside down.

    The torso goes from the middle of the hips to the middle of the shoulders, or to the neck where
    a shoulder is unlabelled (and the skeleton has one).

    Args:
        keypoints_px: (N, K, 2) in pixels of the image.
        visibility: (N, K) of 0, 1, 2.
        skeleton: names the joints.

    Returns:
        (N,) float64 degrees in [0, 180]; NaN without a torso, or where a joint is
        missing or the torso has no length.
    """
    points = keypoints_px.double().masked_fill((visibility == 0)[..., None], torch.nan)
    if not has_torso(skeleton):
        return points.new_full(points.shape[:1], torch.nan)

    def middle(joint: str) -> Tensor:
        left, right = (points[:, skeleton.index(f"{side}_{joint}")] for side in SIDES)
        return (left + right) / 2

    top = middle("shoulder")
    if "neck" in skeleton.keypoints:
        top = torch.where(top.isnan(), points[:, skeleton.index("neck")], top)
    x, y = (top - middle("hip")).unbind(dim=-1)
    angle = torch.rad2deg(torch.atan2(x.abs(), -y))
    return torch.where(x.hypot(y) > 0, angle, torch.nan)


def has_torso(skeleton: Skeleton) -> bool:
    """Tell if a skeleton has the shoulders and hips that a torso lies between."""
    return {name for pair in TORSO for name in pair} <= set(skeleton.keypoints)


def per_torso_angle(
    predicted_px: Tensor,
    keypoints_px: Tensor,
    visibility: Tensor,
    skeleton: Skeleton,
    box_px: Tensor | None = None,
) -> dict[str, dict[str, Any]]:
    """Compute PCK, AUC and EPE of every range of the true torso angle; see `pck_counts`.

    Returns:
        Plain numbers for each of `BINS` (degrees; an edge belongs to the upper one) and
        for the images of `UNKNOWN` angle; ``num_images`` and ``num_keypoints`` say of how many.
    """
    angle = torso_angle(keypoints_px, visibility, skeleton)
    inner = angle.new_tensor(EDGES_DEG[1:-1])
    which = torch.where(angle.isnan(), len(BINS), torch.bucketize(angle, inner, right=True))
    groups: dict[str, dict[str, Any]] = {}
    for number, name in enumerate((*BINS, UNKNOWN)):
        own = which == number
        truth = keypoints_px[own], visibility[own]
        boxes = None if box_px is None else box_px[own]
        hits, counted = pck_counts(predicted_px[own], *truth, skeleton, box_px=boxes)
        distance, labelled = epe_sums(predicted_px[own], *truth)
        groups[name] = {
            **pck_values(hits.sum(dim=0).double() / counted.sum()),
            "epe_px": float(distance.sum() / labelled.sum()),
            "num_images": int(own.sum()),
            "num_keypoints": int(labelled.sum()),
        }
    return groups
