"""Integral regression: the mean of a heatmap, and its loss."""

import math

import torch

from convpose.errors import ConfigError
from convpose.models.keypoints import KeypointLoss, above_zero
from convpose.models.keypoints.heatmap import HeatmapHead, gaussian_along, inside_crop
from convpose.models.pose_model import PoseOutput


class IntegralHead(HeatmapHead):
    """`HeatmapHead` with a soft-argmax (Sun et al., ECCV 2018): exact, and differentiable.

    Its keypoints cannot leave the crop. The arguments are those of `HeatmapHead`, but the mean is
    over all cells; the score is the heatmap's share within ``window`` cells of the keypoint.
    """

    gives = ("keypoints", "heatmap_logits")

    def decode(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit keypoints (B, K, 2) and scores (B, K) of logits (B, K, S, S)."""
        side = logits.shape[-1]
        heatmap = logits.flatten(2).softmax(dim=2).view(logits.shape)
        centre = (torch.arange(side, device=logits.device) + 0.5) / side
        x = (heatmap.sum(dim=2) * centre).sum(dim=2)
        y = (heatmap.sum(dim=3) * centre).sum(dim=2)
        keypoints = torch.stack([x, y], dim=2)
        away = (centre - keypoints.unsqueeze(3)).abs() * side  # (B, K, 2, S)
        close = (away <= self.window + 0.5).float()
        within = heatmap * close[:, :, 0].unsqueeze(2) * close[:, :, 1].unsqueeze(3)
        return keypoints, within.sum(dim=(2, 3)).clamp(0, 1)


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
