"""Losses on unit coordinates, masked: an unlabelled keypoint adds nothing."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from convpose.models.losses.checks import above_zero
from convpose.models.pose_model import PoseOutput


class MaskedMSE(nn.Module):
    """Mean squared error per coordinate over the labelled keypoints, in unit coordinates."""

    needs = ("keypoints",)

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

    needs = ("keypoints",)

    def forward(
        self, output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
    ) -> torch.Tensor:
        """The loss of a batch; arguments as in `MaskedMSE`."""
        error, count = masked_error(output, keypoints, visibility)
        return error.abs().sum() / count


class MaskedSmoothL1(nn.Module):
    """L1 with a parabola instead of the kink: |e| − β/2 outside β, e² / 2β inside.

    Args:
        beta: in unit coordinates.

    Raises:
        ConfigError: a beta that is not above 0.
    """

    needs = ("keypoints",)

    def __init__(self, beta: float = 0.02) -> None:
        super().__init__()
        self.beta = above_zero("beta", beta, 0.02)

    def forward(
        self, output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
    ) -> torch.Tensor:
        """The loss of a batch; arguments as in `MaskedMSE`."""
        error, count = masked_error(output, keypoints, visibility)
        zero = torch.zeros_like(error)
        return F.smooth_l1_loss(error, zero, reduction="sum", beta=self.beta) / count


class MaskedWing(nn.Module):
    """Wing loss (Feng et al., CVPR 2018): small errors weigh more than in L1, large ones as there.

    w · ln(1 + |e| / ε) below w, and |e| plus what makes it continuous above.

    Args:
        w: in unit coordinates; the paper's 10 px of 256 are 0.04.
        epsilon: in unit coordinates; the smaller, the steeper at 0: the slope there is w / ε.

    Raises:
        ConfigError: a number that is not above 0.
    """

    needs = ("keypoints",)

    def __init__(self, w: float = 0.04, epsilon: float = 0.008) -> None:
        super().__init__()
        self.w = above_zero("w", w, 0.04)
        self.epsilon = above_zero("epsilon", epsilon, 0.008)

    def forward(
        self, output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
    ) -> torch.Tensor:
        """The loss of a batch; arguments as in `MaskedMSE`."""
        error, count = masked_error(output, keypoints, visibility)
        size = error.abs()
        step = self.w - self.w * math.log1p(self.w / self.epsilon)
        near = self.w * torch.log1p(size / self.epsilon)
        return torch.where(size < self.w, near, size - step).sum() / count


def masked_error(
    output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Errors (B, K, 2), 0 where unlabelled, and the number of labelled coordinates, at least 1."""
    labelled = (visibility > 0).unsqueeze(-1)
    error = torch.where(labelled, output["keypoints"] - keypoints, 0.0)
    return error, (2 * labelled.sum()).clamp(min=1)
