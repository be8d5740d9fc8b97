"""What all losses share: a loss for each keypoint, and the mean over those that count."""

import torch
from torch import nn

from convpose.models.pose_model import PoseOutput


class KeypointLoss(nn.Module):
    """Base of the losses: `each` is what they differ in.

    Attributes:
        needs: keys of the output that it trains.
    """

    needs: tuple[str, ...]

    def each(
        self, output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss (B, K) of each keypoint, and which of them count; arguments as in `forward`.

        What does not count is finite and has no gradient.
        """
        raise NotImplementedError

    def forward(
        self, output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
    ) -> torch.Tensor:
        """The loss of a batch.

        Args:
            output: with what the loss `needs`.
            keypoints: (B, K, 2) ground truth in unit coordinates, NaN where unlabelled.
            visibility: (B, K) of 0, 1, 2.

        Returns:
            Mean over the keypoints that count; 0 where there are none.
        """
        loss, counts = self.each(output, keypoints, visibility)
        return (loss * counts).sum() / counts.sum().clamp(min=1)
