"""A guess at which keypoints are visible, read off the features without changing them."""

import torch
from torch import nn
from torch.nn import functional as F

from convpose.models.pose_model import Features


class VisibilityProbe(nn.Module):
    """Linear probe on the mean of the coarsest feature map.

    It sees the features detached, so the pose is learned as if the probe were not there.

    Args:
        channels: of the coarsest map.
        num_keypoints: K.
    """

    def __init__(self, channels: int, num_keypoints: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, num_keypoints)

    def forward(self, features: Features) -> torch.Tensor:
        """Logits (B, K) of "visible" against "occluded"."""
        logits: torch.Tensor = self.linear(features[-1].detach().mean(dim=(2, 3)))
        return logits.float()


def visibility_loss(logits: torch.Tensor, visibility: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of visible (2) against occluded (1), mean over labelled keypoints.

    Args:
        logits: (B, K).
        visibility: (B, K) of 0, 1, 2; 0 does not count. LSPET labels no keypoint as occluded, so a
            network that saw LSPET only answers "visible" always.

    Returns:
        Scalar; 0 for a batch without labels.
    """
    labelled = visibility > 0
    loss = F.binary_cross_entropy_with_logits(logits, (visibility == 2).float(), reduction="none")
    return (loss * labelled).sum() / labelled.sum().clamp(min=1)
