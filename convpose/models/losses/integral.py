"""Loss of the integral head: where the heatmap's mean lies, and that the heatmap is one spot."""

import math

import torch

from convpose.errors import ConfigError
from convpose.models.losses.checks import above_zero
from convpose.models.losses.heatmap import gaussian_along, inside_crop
from convpose.models.losses.keypoint import KeypointLoss
from convpose.models.pose_model import PoseOutput


class IntegralLoss(KeypointLoss):
    """L1 of the coordinates, plus the heatmap's divergence from a Gaussian around the keypoint.

    Without the second term the heatmap may have any shape, even two peaks with the keypoint between
    them (Jensen–Shannon regularisation; Nibali et al., 2018).

    At the crop's border the Gaussian is cut off, and both terms disagree: the mean of what is left
    lies 0.8 cells further in for a keypoint on the border itself, half a cell for one in the middle
    of the outermost cell, an eighth of a cell in the next.

    Args:
        weight: of the divergence, which is at most ln 2; 0 leaves L1 alone, that of Sun et al.
        sigma: of the Gaussian in cells.

    Raises:
        ConfigError: a weight below 0, or a sigma that is not above 0.
    """

    needs = ("keypoints", "heatmap_logits")

    def __init__(self, weight: float = 0.5, sigma: float = 1.0) -> None:
        super().__init__()
        if not 0 <= weight < math.inf:
            raise ConfigError(f"loss.weight={weight}: expected 0 or more; type loss.weight=0.5")
        self.weight = weight
        self.sigma = above_zero("sigma", sigma, 1.0)

    def each(
        self, output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `KeypointLoss`; what counts is labelled and inside the crop."""
        safe, inside = inside_crop(keypoints, visibility)
        logits = output["heatmap_logits"]
        along = gaussian_along(safe, logits.shape[-1], self.sigma)
        target = along[:, :, 1].unsqueeze(3) + along[:, :, 0].unsqueeze(2)
        divergence = jensen_shannon(logits.flatten(2).log_softmax(dim=2), target.flatten(2))
        distance = (output["keypoints"] - safe).abs().mean(dim=2)
        loss = distance + self.weight * divergence
        return loss, inside


def jensen_shannon(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """Jensen–Shannon divergence of distributions (…, N) by their logarithms; 0 to ln 2."""
    log_mean = torch.logaddexp(log_p, log_q) - math.log(2)
    kl = log_p.exp() * (log_p - log_mean) + log_q.exp() * (log_q - log_mean)
    return kl.sum(dim=-1) / 2
