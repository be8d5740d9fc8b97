"""From predictions to measures: the one way in which runs and files of predictions are scored."""

import contextlib
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
from convpose.metrics.functional import keypoint_distance, torso_diameter
from convpose.metrics.pose_metrics import PoseMetrics
from convpose.metrics.torso_angle import per_torso_angle
from convpose.progress import progress
from convpose.skeleton import Skeleton

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The ground truth of a split.

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
    def of(cls, dataset: PoseLandmarksDataset, skeleton: Skeleton) -> "Truth":
        """Collect it without reading a pixel."""
        samples = [dataset.truth(i) for i in range(len(dataset))]
        return cls(
            dataset.image_ids,
            torch.stack([s["keypoints_px"] for s in samples]),
            torch.stack([s["visibility"] for s in samples]),
            torch.stack([s["unit_to_px"] for s in samples]),
            skeleton,
        )

    def to_unit(self, keypoints_px: torch.Tensor) -> torch.Tensor:
        """Keypoints (N, K, 2) from pixels of the image files to unit coordinates of the crops."""
        to_unit = np.stack([invert(affine) for affine in self.unit_to_px.double().numpy()])
        return transform(torch.from_numpy(to_unit), keypoints_px.double())

    def score(self, predicted_px: torch.Tensor) -> dict[str, Any]:
        """All measures of predictions (N, K, 2) in pixels; see `PoseMetrics.compute`."""
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
        """PCK, AUC and EPE of predictions (N, K, 2) in pixels; see `per_torso_angle`."""
        return per_torso_angle(predicted_px, self.keypoints_px, self.visibility, self.skeleton)

    def errors(self, predicted_px: torch.Tensor) -> NDArray[np.float64]:
        """Error of every keypoint in torso diameters (N, K); NaN unlabelled or without a torso."""
        size, _ = torso_diameter(self.keypoints_px, self.visibility, self.skeleton)
        distance = keypoint_distance(predicted_px, self.keypoints_px) / size[:, None]
        errors: NDArray[np.float64] = distance.double().numpy()
        return errors


def predict(
    model: nn.Module,
    loader: DataLoader[PoseSample],
    device: torch.device,
    precision: str,
    show: bool = True,
) -> Predictions:
    """Run a model over all samples of a loader.

    Args:
        model: `PoseModel` or what answers like one; it is put into evaluation mode on `device`.
        loader: of crops in order, without augmentation.
        device: where to compute.
        precision: ``32-true`` or what the training used, ``bf16-mixed`` or ``16-mixed``.
        show: a progress bar.

    Returns:
        Keypoints in pixels of the image files, with scores.
    """
    model.eval().to(device)
    half = AUTOCAST.get(precision)
    autocast = torch.autocast(device.type, half) if half else contextlib.nullcontext()
    ids: list[str] = []
    keypoints_px, scores = [], []
    for batch in progress(loader, "predicting", show=show):
        with torch.inference_mode(), autocast:
            output = model(batch["image"].to(device))
        keypoints_px.append(transform(batch["unit_to_px"], output["keypoints"].float().cpu()))
        scores.append(output["scores"].float().cpu())
        ids.extend(batch["image_id"])
    return Predictions(
        np.array(ids, dtype=np.str_),
        torch.cat(keypoints_px).numpy(),
        torch.cat(scores).numpy(),
    )
