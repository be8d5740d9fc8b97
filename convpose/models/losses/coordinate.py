"""Losses on unit coordinates, masked: an unlabelled keypoint adds nothing."""

import math

import torch
from torch.nn import functional as F

from convpose.models.losses.checks import above_zero
from convpose.models.losses.keypoint import KeypointLoss
from convpose.models.pose_model import PoseOutput


class CoordinateLoss(KeypointLoss):
    """Mean of `of` over the coordinates of the labelled keypoints."""

    needs = ("keypoints",)

    def of(self, error: torch.Tensor) -> torch.Tensor:
        """The loss of errors of any shape, in unit coordinates."""
        raise NotImplementedError

    def each(
        self, output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `KeypointLoss`; keypoints outside the crop count as well."""
        labelled = visibility > 0
        error = torch.where(labelled.unsqueeze(-1), output["keypoints"] - keypoints, 0.0)
        return self.of(error).mean(dim=-1), labelled


class MaskedMSE(CoordinateLoss):
    """Mean squared error."""

    def of(self, error: torch.Tensor) -> torch.Tensor:
        """e²."""
        return error.square()


class MaskedL1(CoordinateLoss):
    """Mean absolute error."""

    def of(self, error: torch.Tensor) -> torch.Tensor:
        """|e|."""
        return error.abs()


class MaskedSmoothL1(CoordinateLoss):
    """L1 with a parabola instead of the kink.

    Args:
        beta: in unit coordinates.

    Raises:
        ConfigError: a beta that is not above 0.
    """

    def __init__(self, beta: float = 0.02) -> None:
        super().__init__()
        self.beta = above_zero("beta", beta, 0.02)

    def of(self, error: torch.Tensor) -> torch.Tensor:
        """|e| − β/2 outside β, e² / 2β inside."""
        return F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none", beta=self.beta)


class MaskedWing(CoordinateLoss):
    """Wing loss (Feng et al., CVPR 2018): small errors weigh more than in L1, large ones as there.

    Args:
        w: in unit coordinates; the paper's 10 px of 256 are 0.04.
        epsilon: in unit coordinates; the smaller, the steeper at 0: the slope there is w / ε.

    Raises:
        ConfigError: a number that is not above 0.
    """

    def __init__(self, w: float = 0.04, epsilon: float = 0.008) -> None:
        super().__init__()
        self.w = above_zero("w", w, 0.04)
        self.epsilon = above_zero("epsilon", epsilon, 0.008)

    def of(self, error: torch.Tensor) -> torch.Tensor:
        """W · ln(1 + |e| / ε) below w, and |e| plus what makes it continuous above."""
        size = error.abs()
        step = self.w - self.w * math.log1p(self.w / self.epsilon)
        near = self.w * torch.log1p(size / self.epsilon)
        return torch.where(size < self.w, near, size - step)
