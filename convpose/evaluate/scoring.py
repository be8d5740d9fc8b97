"""Predict a subset and score predictions: one way for runs, exported networks and files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader

from convpose.data.annotation import PoseSample
from convpose.data.dataset import PoseLandmarksDataset
from convpose.evaluate.predictions import Predictions
from convpose.geometry import invert, transform
from convpose.hardware import autocast
from convpose.metrics.functional import keypoint_distance, torso_diameter
from convpose.metrics.pose_metrics import PoseMetrics
from convpose.metrics.torso_angle import per_torso_angle
from convpose.progress import progress
from convpose.skeleton import Skeleton

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
    """

    image_ids: list[str]
    keypoints_px: torch.Tensor
    visibility: torch.Tensor
    unit_to_px: torch.Tensor
    skeleton: Skeleton

    @classmethod
    def of(cls, dataset: PoseLandmarksDataset, skeleton: Skeleton) -> "GroundTruth":
        """Collect the annotations of a data set without reading a pixel."""
        samples = [dataset.truth(i) for i in range(len(dataset))]
        return cls(
            dataset.image_ids,
            torch.stack([s["keypoints_px"] for s in samples]),
            torch.stack([s["visibility"] for s in samples]),
            torch.stack([s["unit_to_px"] for s in samples]),
            skeleton,
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
        )
        return metrics.compute()

    def score_by_torso_angle(self, predicted_px: torch.Tensor) -> dict[str, dict[str, Any]]:
        """Compute PCK, AUC and EPE by the angle of the torso; see `per_torso_angle`."""
        return per_torso_angle(predicted_px, self.keypoints_px, self.visibility, self.skeleton)

    def errors(self, predicted_px: torch.Tensor) -> NDArray[np.float64]:
        """Measure errors (N, K) in torso diameters; NaN where unlabelled or without a torso."""
        size, _ = torso_diameter(self.keypoints_px, self.visibility, self.skeleton)
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
