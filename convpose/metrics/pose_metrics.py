"""All measures of a subset at once, accumulated batch by batch, and by the angle of the torso.

The same class serves the validation loop and `convpose.evaluate`. Its state is sums and counts per
keypoint, so that batches may come in any size and order and devices simply add up.

The angle of the torso says how far people are from upright. LSPET is gymnastics, parkour and
climbing: 43 % of its people lean by more than 60° or are upside down (of those whose torso is
labelled). A total does not tell whether a network has learned that, or only that heads are above
feet.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from convpose.metrics.functional import (
    MSE_SCALES,
    THRESHOLDS,
    Reference,
    epe_sums,
    nme_sums,
    pck_counts,
    pck_values,
    pcp_counts,
    reference_size,
    squared_sums,
)
from convpose.skeleton import SIDES, TORSO, Skeleton

DEGENERATE_TORSO_PX = (
    5.0  # a size below which PCK asks for less than a pixel at 0.2; counted, not left out
)
EDGES_DEG = (0, 30, 60, 120, 180)  # upright, leaning, lying, upside down
BINS = tuple(f"{low}-{high}" for low, high in pairwise(EDGES_DEG))
UNKNOWN = "unknown"  # a hip, or both a shoulder and the neck, is unlabelled


class PoseMetrics(Metric):
    """PCK, AUC, PCP, EPE, NME and MSE of one subset, total, per joint, per part and per stick.

    Args:
        skeleton: names the keypoints, the torso, the parts and the sticks.
    """

    full_state_update = False  # an update does not read the state: forward() may add instead

    pck_hits: Tensor
    pck_counted: Tensor
    pcp_hits: Tensor
    pcp_counted: Tensor
    distance_sum_px: Tensor
    squared_sum: Tensor
    labelled: Tensor
    normalised_sum: Tensor
    torsos: Tensor
    degenerate: Tensor

    def __init__(self, skeleton: Skeleton) -> None:
        super().__init__()
        self.skeleton = skeleton
        joints, sticks = skeleton.num_keypoints, len(skeleton.sticks or {})
        for name, shape, dtype in (
            ("pck_hits", (joints, len(THRESHOLDS)), torch.int64),
            ("pck_counted", (joints,), torch.int64),
            ("pcp_hits", (sticks,), torch.int64),
            ("pcp_counted", (sticks,), torch.int64),
            ("distance_sum_px", (joints,), torch.float64),
            ("squared_sum", (joints,), torch.float64),
            ("labelled", (joints,), torch.int64),
            ("normalised_sum", (joints,), torch.float64),
            ("torsos", (len(Reference),), torch.int64),
            ("degenerate", (), torch.int64),
        ):
            self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def update(
        self,
        predicted_px: Tensor,
        keypoints_px: Tensor,
        visibility: Tensor,
        predicted: Tensor,
        keypoints: Tensor,
        box_px: Tensor | None = None,
    ) -> None:
        """Add a batch; arguments are left as they are and nothing waits for the device.

        Args:
            predicted_px: (N, K, 2) in pixels of the image file.
            keypoints_px: (N, K, 2) ground truth, NaN where unlabelled.
            visibility: (N, K) of 0, 1, 2.
            predicted: (N, K, 2) in unit coordinates of the crop; MSE is defined there.
            keypoints: (N, K, 2) ground truth in unit coordinates.
            box_px: (N, 4) edges of the people's boxes, for skeletons whose normaliser is the box.

        Raises:
            ValueError: shapes that do not belong together or to the skeleton.
        """
        expected = (predicted_px.shape[0], self.skeleton.num_keypoints)
        if keypoints_px.shape != (*expected, 2) or visibility.shape != expected:
            raise ValueError(
                f"{self.skeleton.name} wants keypoints {(*expected, 2)} and visibility {expected}, "
                f"got {tuple(keypoints_px.shape)} and {tuple(visibility.shape)}"
            )
        truth = keypoints_px, visibility, self.skeleton
        size, kind = reference_size(*truth, box_px)
        kinds = torch.stack([(kind == which).sum() for which in Reference])
        hits, counted = pck_counts(predicted_px, *truth, box_px=box_px)
        normalised = nme_sums(predicted_px, *truth, box_px)
        sticks, counted_sticks = pcp_counts(predicted_px, *truth)
        distance, labelled = epe_sums(predicted_px, keypoints_px, visibility)
        squared, _ = squared_sums(predicted, keypoints, visibility)
        # Not in place: a state that a half-precision run has narrowed becomes float64 again.
        self.torsos = self.torsos + kinds
        self.degenerate = self.degenerate + (size < DEGENERATE_TORSO_PX).sum()
        self.pck_hits = self.pck_hits + hits
        self.pck_counted = self.pck_counted + counted
        self.pcp_hits = self.pcp_hits + sticks
        self.pcp_counted = self.pcp_counted + counted_sticks
        self.distance_sum_px = self.distance_sum_px + distance
        self.normalised_sum = self.normalised_sum + normalised
        self.squared_sum = self.squared_sum + squared
        self.labelled = self.labelled + labelled

    def compute(self) -> dict[str, Any]:
        """Compute the measures as plain numbers for ``metrics.json``; NaN where nothing counted.

        Returns:
            The headline, fractions in [0, 1] for PCK, AUC and PCP, then counts, then groups:

            - ``num_images``: all images; ``num_keypoints``: all labelled keypoints, over which EPE
              and MSE average; ``num_keypoints_pck``: those of images that have a torso.
            - ``normaliser``: what PCK and NME divide by, such as ``torso`` or ``box_side``;
              ``torso_fallbacks``: images normalised by the other diagonal; ``torso_missing``:
              images left out of PCK; ``torso_degenerate``: sizes below `DEGENERATE_TORSO_PX`.
            - ``limbs`` pools the keypoints of ``skeleton.limb_joints``, as the total pools all;
              ``per_part`` averages the values of its keypoints (left and right), as published.
            - ``pck_curve``: ``thresholds``, ``total`` and one curve per part.
        """
        names, parts = self.skeleton.keypoints, self.skeleton.part_indices
        hits, counted = self.pck_hits.cpu().double(), self.pck_counted.cpu()
        sticks, counted_sticks = self.pcp_hits.cpu().double(), self.pcp_counted.cpu()
        distance, labelled = self.distance_sum_px.cpu().double(), self.labelled.cpu()
        mse = float(self.squared_sum.cpu().double().sum() / (2 * labelled.sum()))
        main, fallbacks, missing = self.torsos.tolist()

        curves, total = hits / counted[:, None], hits.sum(dim=0) / counted.sum()
        part_curves = {part: curves[list(ids)].nanmean(dim=0) for part, ids in parts.items()}
        limbs = [self.skeleton.index(name) for name in self.skeleton.limb_joints]
        epe, pcp = distance / labelled, sticks / counted_sticks

        def group(ids: list[int], curve: Tensor) -> dict[str, float]:
            return {
                **pck_values(curve),
                "epe_px": float(epe[ids].nanmean()),
                "num_keypoints": int(labelled[ids].sum()),
            }

        return {
            **pck_values(total),
            "pcp@0.5": float(sticks.sum() / counted_sticks.sum()),
            "epe_px": float(distance.sum() / labelled.sum()),
            "nme": float(self.normalised_sum.cpu().double().sum() / counted.sum()),
            **{convention: scale * mse for convention, scale in MSE_SCALES.items()},
            "num_images": main + fallbacks + missing,
            "num_keypoints": int(labelled.sum()),
            "num_keypoints_pck": int(counted.sum()),
            "normaliser": self.skeleton.reference,
            "torso_fallbacks": fallbacks,
            "torso_missing": missing,
            "torso_degenerate": int(self.degenerate),
            "limbs": pck_values(hits[limbs].sum(dim=0) / counted[limbs].sum()),
            "per_joint": {n: group([i], curves[i]) for i, n in enumerate(names)},
            "per_part": {p: group(list(ids), part_curves[p]) for p, ids in parts.items()},
            "per_stick": {
                name: {"pcp@0.5": float(pcp[i]), "num_sticks": int(counted_sticks[i])}
                for i, name in enumerate(self.skeleton.sticks or {})
            },
            "pck_curve": {
                "thresholds": list(THRESHOLDS),
                "total": total.tolist(),
                **{part: curve.tolist() for part, curve in part_curves.items()},
            },
        }


class PredictionSpread(Metric):
    """Root mean variance over the images of the predictions, divided by that of the labels.

    0 is a constant pose, 1 varies as much as people do. Its state is sums, so that batches may come
    in any size and processes add up.
    """

    full_state_update = False

    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        # number, sums and sums of squares of predictions and labels, each for K keypoints' x and y
        self.add_state("sums", torch.zeros(5, 1, 1, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, labelled: Tensor) -> None:
        """Add a batch of keypoints (B, K, 2), NaN in `labelled` where there is no label."""
        known = ~labelled.isnan()
        values = torch.stack([predicted, labelled]).double().where(known, 0.0) - 0.5 * known
        sums = [known.double().sum(0), *values.sum(1), *values.square().sum(1)]
        self.sums = self.sums + torch.stack(sums)

    def compute(self) -> Tensor:
        """Compute the ratio, a scalar; NaN if nothing is labelled."""
        number, sums, squares = self.sums[0], self.sums[1:3], self.sums[3:5]
        variances = (squares / number - (sums / number).square()).clamp(min=0)
        predicted, labelled = variances.nanmean(dim=(1, 2)).sqrt()
        ratio: Tensor = predicted / labelled
        return ratio


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
