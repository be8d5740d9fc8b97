"""Cross-entropy of SimCC's two classifications."""

import torch
from torch import nn

from convpose.models.losses.checks import above_zero
from convpose.models.losses.heatmap import gaussian_along, inside_crop
from convpose.models.pose_model import PoseOutput


class SimccCrossEntropy(nn.Module):
    """Cross-entropy of both axes to Gaussians around the keypoint, summed (Li et al., ECCV 2022).

    The Gaussian is the paper's label smoothing: a bin beside the right one is nearly right. The
    gradient is that of the Kullback–Leibler divergence.

    Args:
        sigma: of the Gaussian in bins.

    Raises:
        ConfigError: a sigma that is not above 0.
    """

    needs = ("simcc_logits",)

    def __init__(self, sigma: float = 4.0) -> None:
        super().__init__()
        self.sigma = above_zero("sigma", sigma, 4.0)

    def forward(
        self, output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
    ) -> torch.Tensor:
        """The loss of a batch.

        Args:
            output: with ``simcc_logits`` (B, K, 2, N).
            keypoints: (B, K, 2) ground truth in unit coordinates, NaN where unlabelled.
            visibility: (B, K) of 0, 1, 2.

        Returns:
            Mean over the labelled keypoints inside the crop; 0 where there are none.
        """
        logits = output["simcc_logits"]
        safe, inside = inside_crop(keypoints, visibility)
        target = gaussian_along(safe, logits.shape[-1], self.sigma).exp()
        loss = -(target * logits.log_softmax(dim=3)).sum(dim=(2, 3))
        return (loss * inside).sum() / inside.sum().clamp(min=1)
