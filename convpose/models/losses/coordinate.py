"""Losses on unit coordinates, masked: an unlabelled keypoint adds nothing."""

import torch
from torch import nn

from convpose.models.pose_model import PoseOutput


class MaskedMSE(nn.Module):
    """Mean squared error per coordinate over the labelled keypoints, in unit coordinates."""

    def forward(
        self, output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
    ) -> torch.Tensor:
        """The loss of a batch.

        Args:
            output: with ``keypoints`` (B, K, 2).
            keypoints: (B, K, 2) ground truth, NaN where unlabelled.
            visibility: (B, K) of 0, 1, 2.

        Returns:
            Scalar; 0 for a batch without labels.
        """
        error, count = masked_error(output, keypoints, visibility)
        return error.square().sum() / count


class MaskedL1(nn.Module):
    """Mean absolute error per coordinate over the labelled keypoints, in unit coordinates."""

    def forward(
        self, output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
    ) -> torch.Tensor:
        """The loss of a batch; arguments as in `MaskedMSE`."""
        error, count = masked_error(output, keypoints, visibility)
        return error.abs().sum() / count


def masked_error(
    output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Errors (B, K, 2), 0 where unlabelled, and the number of labelled coordinates, at least 1."""
    labelled = (visibility > 0).unsqueeze(-1)
    error = torch.where(labelled, output["keypoints"] - keypoints, 0.0)
    return error, (2 * labelled.sum()).clamp(min=1)
