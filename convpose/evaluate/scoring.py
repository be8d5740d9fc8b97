"""Predict a subset and score predictions: one way for runs, exported networks and files."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader

from convpose.data.annotation import PoseSample, PoseSource
from convpose.data.corruption import Corruption
from convpose.data.crop import Crop, found_box_px
from convpose.data.datamodule import PoseDataModule
from convpose.data.dataset import Loader, PoseLandmarksDataset
from convpose.evaluate.predictions import Predictions
from convpose.geometry import invert, transform
from convpose.hardware import autocast
from convpose.metrics.functional import (
    HEAD_THRESHOLDS,
    keypoint_distance,
    pckh_counts,
    reference_size,
)
from convpose.metrics.pose_metrics import PoseMetrics, per_torso_angle
from convpose.progress import progress
from convpose.skeleton import Skeleton

NOT_IN_PCKH = ("pelvis", "thorax")  # MPII's total leaves them out
# crops (B, 3, S, S) uint8 → output with unit ``keypoints`` (B, K, 2) and ``scores`` (B, K)
Network = Callable[[torch.Tensor], Mapping[str, torch.Tensor]]


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """Holds the ground truth of a subset, and scores predictions against it.

    Attributes:
        image_ids: N ids.
        keypoints_px: (N, K, 2) in pixels of the image files, NaN where unlabelled.
        visibility: (N, K) of 0, 1, 2.
        unit_to_px: (N, 2, 3) of the crops; MSE is defined in their unit coordinates.
        skeleton: of the keypoints.
        box_px: (N, 4) edges of the people's boxes in pixels.
        head_px: (N,) diagonals of the boxes of heads, NaN where unknown; None for no PCKh.
    """

    image_ids: list[str]
    keypoints_px: torch.Tensor
    visibility: torch.Tensor
    unit_to_px: torch.Tensor
    skeleton: Skeleton
    box_px: torch.Tensor | None = None
    head_px: torch.Tensor | None = None

    @classmethod
    def of(cls, dataset: PoseLandmarksDataset, skeleton: Skeleton) -> "GroundTruth":
        """Collect the annotations of a data set without reading a pixel."""
        samples = [dataset.truth(i) for i in range(len(dataset))]
        heads_px = [dataset.source.annotations[i].head_px or np.nan for i in dataset.indices]
        return cls(
            dataset.image_ids,
            torch.stack([s["keypoints_px"] for s in samples]),
            torch.stack([s["visibility"] for s in samples]),
            torch.stack([s["unit_to_px"] for s in samples]),
            skeleton,
            torch.stack([s["box_px"] for s in samples]),
            None if np.isnan(heads_px).all() else torch.tensor(heads_px, dtype=torch.float64),
        )

    def to_unit(self, keypoints_px: torch.Tensor) -> torch.Tensor:
        """Move keypoints (N, K, 2) from pixels of image files to unit coordinates of crops."""
        to_unit = np.stack([invert(affine) for affine in self.unit_to_px.double().numpy()])
        return transform(torch.from_numpy(to_unit), keypoints_px.double())

    def score(self, predicted_px: torch.Tensor) -> dict[str, Any]:
        """Compute all measures of predictions (N, K, 2) in pixels; see `PoseMetrics.compute`."""
        metrics = PoseMetrics(self.skeleton)
        metrics.update(
            predicted_px,
            self.keypoints_px,
            self.visibility,
            self.to_unit(predicted_px),
            self.to_unit(self.keypoints_px),
            self.box_px,
        )
        return metrics.compute() | self._score_by_head(predicted_px)

    def _score_by_head(self, predicted_px: torch.Tensor) -> dict[str, Any]:
        """Compute PCKh, total and per part; the total is over the joints that MPII counts."""
        if self.head_px is None:
            return {}
        truth = self.keypoints_px, self.visibility, self.head_px
        hits, counted = pckh_counts(predicted_px, *truth)
        joints = [i for i, n in enumerate(self.skeleton.keypoints) if n not in NOT_IN_PCKH]
        total = (hits[joints].sum(dim=0) / counted[joints].sum()).tolist()
        shares = hits[:, 0] / counted
        parts = self.skeleton.part_indices.items()
        named = {f"pckh@{t}": share for t, share in zip(HEAD_THRESHOLDS, total, strict=True)}
        return named | {"pckh_per_part": {p: float(shares[list(i)].nanmean()) for p, i in parts}}

    def score_by_torso_angle(self, predicted_px: torch.Tensor) -> dict[str, dict[str, Any]]:
        """Compute PCK, AUC and EPE by the angle of the torso; see `per_torso_angle`."""
        truth = self.keypoints_px, self.visibility, self.skeleton, self.box_px
        return per_torso_angle(predicted_px, *truth)

    def errors(self, predicted_px: torch.Tensor) -> NDArray[np.float64]:
        """Measure errors (N, K) in torso diameters, or see `reference_size`; NaN without one."""
        truth = self.keypoints_px, self.visibility, self.skeleton, self.box_px
        size, _ = reference_size(*truth)
        distance = keypoint_distance(predicted_px, self.keypoints_px) / size[:, None]
        errors: NDArray[np.float64] = distance.double().numpy()
        return errors


def on_device(model: nn.Module, device: torch.device, precision: str) -> Network:
    """Put a model on a device, in evaluation mode, as a function of crops on any device.

    Args:
        model: `PoseModel`, or what has its output.
        device: where to compute.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
    """
    model.eval().to(device)

    def network(crops: torch.Tensor) -> Mapping[str, torch.Tensor]:
        with torch.inference_mode(), autocast(device, precision):
            output: Mapping[str, torch.Tensor] = model(crops.to(device))
        return output

    return network


def predict(
    network: Network, loader: DataLoader[PoseSample], what: str = "predicting", show: bool = True
) -> Predictions:
    """Predict all samples of a loader.

    Args:
        network: see `on_device`.
        loader: of crops in order, without augmentation.
        what: names the work on the progress bar.
        show: False for no bar.

    Returns:
        Keypoints in pixels of the image files, with scores.
    """
    ids: list[str] = []
    keypoints_px, scores = [], []
    for batch in progress(loader, what, show=show):
        output = network(batch["image"])
        keypoints_px.append(transform(batch["unit_to_px"], output["keypoints"].float().cpu()))
        scores.append(output["scores"].float().cpu())
        ids.extend(batch["image_id"])
    return Predictions(
        np.array(ids, dtype=np.str_),
        torch.cat(keypoints_px).numpy(),
        torch.cat(scores).numpy(),
    )


def make_loader(
    datamodule: PoseDataModule,
    source: PoseSource,
    indices: Sequence[int],
    crop: Crop,
    damage: Corruption | None = None,
) -> Loader:
    """Load samples that a data module does not have itself, in order, in its size and batches."""
    side, skeleton = datamodule.input_size_px, datamodule.skeleton
    dataset = PoseLandmarksDataset(source, indices, crop, side, skeleton, damage)
    return Loader(dataset, batch_size=datamodule.batch_size, num_workers=datamodule.num_workers)


def look_again(
    network: Network,
    datamodule: PoseDataModule,
    subset: str,
    first: Predictions,
    box_scale: float,
) -> Predictions:
    """Predict a subset again, each image in the box of what was found in the whole frame.

    The first answer stays where it is too unsure for a box. No ground truth is used.

    Args:
        network: see `on_device`.
        datamodule: of the images.
        subset: ``train``, ``val`` or ``test``.
        first: predictions from whole frames, in the order of the subset, with scores.
        box_scale: see `Crop`.
    """
    assert first.scores is not None  # `predict` gives them
    dataset = datamodule.datasets[subset]
    annotations, rows = list(dataset.source.annotations), []
    for row, index in enumerate(dataset.indices):
        person = annotations[index]
        size_px = person.width_px, person.height_px
        box_px = found_box_px(first.keypoints_px[row], first.scores[row], size_px)
        if box_px is not None:
            annotations[index] = replace(person, box_px=box_px)
            rows.append(row)
    if not rows:
        return first
    closer_source: Any = copy.copy(dataset.source)
    closer_source.annotations = annotations
    indices = [dataset.indices[row] for row in rows]
    loader = make_loader(datamodule, closer_source, indices, Crop("box", box_scale))
    second = predict(network, loader, "looking again")
    keypoints_px, scores = first.keypoints_px.copy(), first.scores.copy()
    keypoints_px[rows], scores[rows] = second.keypoints_px, second.scores
    return Predictions(first.image_id, keypoints_px, scores)
