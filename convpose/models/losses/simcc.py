"""Cross-entropy of SimCC's two classifications."""

import torch

from convpose.models.losses.checks import above_zero
from convpose.models.losses.heatmap import gaussian_along, inside_crop
from convpose.models.losses.keypoint import KeypointLoss
from convpose.models.pose_model import PoseOutput


class SimccCrossEntropy(KeypointLoss):
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

    def each(
        self, output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `KeypointLoss`; what counts is labelled and inside the crop."""
        logits = output["simcc_logits"]
        safe, inside = inside_crop(keypoints, visibility)
        target = gaussian_along(safe, logits.shape[-1], self.sigma).exp()
        loss = -(target * logits.log_softmax(dim=3)).sum(dim=(2, 3))
        return loss, inside
