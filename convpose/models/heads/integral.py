"""Integral head: the keypoint is the heatmap's mean, so that coordinates can train it."""

import torch

from convpose.models.heads.heatmap import HeatmapHead


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
