"""Cross-entropy between heatmaps."""

import torch

from convpose.models.losses.checks import above_zero
from convpose.models.losses.keypoint import KeypointLoss
from convpose.models.pose_model import PoseOutput


class HeatmapCrossEntropy(KeypointLoss):
    """Cross-entropy of the softmax heatmap to a Gaussian around the keypoint.

    The softmax makes the cells of a map compete, so no weighting of foreground against background
    is needed, and a keypoint costs the same whatever the number of cells.

    Args:
        sigma: of the Gaussian in cells.

    Raises:
        ConfigError: a sigma that is not above 0.
    """

    needs = ("heatmap_logits",)

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__()
        self.sigma = above_zero("sigma", sigma, 1.0)

    def each(
        self, output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `KeypointLoss`; what counts is labelled and inside the crop."""
        logits = output["heatmap_logits"]
        safe, inside = inside_crop(keypoints, visibility)
        target = gaussian(safe, logits.shape[-1], self.sigma)
        log_heatmap = logits.flatten(2).log_softmax(dim=2)
        loss = -(target.flatten(2) * log_heatmap).sum(dim=2)
        return loss, inside


def inside_crop(
    keypoints: torch.Tensor, visibility: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keypoints (B, K, 2) with the crop's centre for those that do not count, and a mask (B, K).

    What counts is labelled and within the crop: the others have no cell.
    """
    inside = (visibility > 0) & ((keypoints >= 0) & (keypoints < 1)).all(dim=-1)  # NaN is not
    return torch.where(inside.unsqueeze(-1), keypoints, 0.5).float(), inside


def gaussian(keypoints: torch.Tensor, side: int, sigma: float) -> torch.Tensor:
    """Heatmaps (B, K, side, side) of unit keypoints (B, K, 2), each with the sum 1."""
    along = gaussian_along(keypoints, side, sigma).exp()
    return along[:, :, 1].unsqueeze(3) * along[:, :, 0].unsqueeze(2)


def gaussian_along(keypoints: torch.Tensor, side: int, sigma: float) -> torch.Tensor:
    """Logarithm of Gaussians (B, K, 2, side) along x and y, each with the sum 1."""
    centre = (torch.arange(side, device=keypoints.device) + 0.5) / side
    away = (centre - keypoints.unsqueeze(-1)) * side / sigma
    return torch.log_softmax(-away.square() / 2, dim=-1)
