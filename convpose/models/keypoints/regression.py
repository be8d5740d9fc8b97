"""Regression: coordinates as numbers, alone or with their scales, and the losses on them."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from convpose.config.schema import Count, Positive
from convpose.errors import ConfigError
from convpose.models.keypoints import KeypointLoss, Standardized, VisibilityProbe, check_input
from convpose.models.pose_model import Features, PoseOutput

SMALLEST_SIGMA = 0.002  # half a pixel of 256; unbounded, sigma tends to 0 on images known by heart


class RegressionHead(Standardized):
    """Flatten, linear, ReLU, linear to 2K coordinates.

    Args:
        out_channels: channels of the backbone's feature maps; the last map is used.
        strides: their strides.
        input_size_px: side of the network's input.
        num_keypoints: K.
        hidden: width of the hidden layer, 512 in the paper.
        standardize: take the statistics of the training keypoints as centre and spread; if not,
            the output layer predicts unit coordinates around the crop's centre, as the paper did.

    Raises:
        ConfigError: an input too small for the stride.
    """

    outputs = ("keypoints",)
    default_loss = "regression"

    def __init__(
        self,
        out_channels: tuple[int, ...],
        strides: tuple[int, ...],
        input_size_px: int,
        num_keypoints: int,
        hidden: Count = 512,
        standardize: bool = True,
    ) -> None:
        super().__init__(num_keypoints, standardize)
        cells = (input_size_px // strides[-1]) ** 2
        if cells == 0:
            raise ConfigError(
                f"data.input_size_px={input_size_px}: expected at least {strides[-1]} px"
            )
        self.num_keypoints = num_keypoints
        self.hidden = nn.Linear(out_channels[-1] * cells, hidden)
        self.relu = nn.ReLU(inplace=True)
        self.output = nn.Linear(hidden, num_keypoints * 2)

    def forward(self, features: Features) -> PoseOutput:
        """Turn features into keypoints (B, K, 2); all scores (B, K) are 0.5: it has none."""
        hidden = self.relu(self.hidden(features[-1].flatten(1)))
        raw = self.output(hidden).float().view(-1, self.num_keypoints, 2)
        return {"keypoints": self.to_unit(raw), "scores": raw.new_full(raw.shape[:2], 0.5)}


class CoordinateLoss(KeypointLoss):
    """Base of the losses on coordinates: the mean of `penalty` over those that are labelled."""

    requires = ("keypoints",)

    def penalty(self, error: torch.Tensor) -> torch.Tensor:
        """Compute the loss of errors of any shape, in unit coordinates."""
        raise NotImplementedError

    def per_keypoint(
        self, output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Average both coordinates; keypoints outside the crop count as well."""
        labelled = visibility > 0
        error = torch.where(labelled.unsqueeze(-1), output["keypoints"] - keypoints, 0.0)
        return self.penalty(error).mean(dim=-1), labelled


class MaskedMSE(CoordinateLoss):
    """Mean squared error."""

    def penalty(self, error: torch.Tensor) -> torch.Tensor:
        """Return e²."""
        return error.square()


class MaskedL1(CoordinateLoss):
    """Mean absolute error."""

    def penalty(self, error: torch.Tensor) -> torch.Tensor:
        """Return |e|."""
        return error.abs()


class MaskedSmoothL1(CoordinateLoss):
    """L1 with a parabola instead of the kink.

    Args:
        beta: in unit coordinates.
    """

    def __init__(self, beta: Positive = 0.02) -> None:
        super().__init__()
        self.beta = beta

    def penalty(self, error: torch.Tensor) -> torch.Tensor:
        """Return |e| − β/2 outside β, e² / 2β inside."""
        return F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none", beta=self.beta)


class MaskedWing(CoordinateLoss):
    """Wing loss (Feng et al., CVPR 2018): small errors weigh more than in L1, large ones as there.

    Args:
        w: in unit coordinates; the paper's 10 px of 256 are 0.04.
        epsilon: in unit coordinates; the smaller, the steeper at 0: the slope there is w / ε.
    """

    def __init__(self, w: Positive = 0.04, epsilon: Positive = 0.008) -> None:
        super().__init__()
        self.w = w
        self.epsilon = epsilon

    def penalty(self, error: torch.Tensor) -> torch.Tensor:
        """Return w · ln(1 + |e| / ε) below w, and |e| plus a constant that joins both above."""
        size = error.abs()
        step = self.w - self.w * math.log1p(self.w / self.epsilon)
        near = self.w * torch.log1p(size / self.epsilon)
        return torch.where(size < self.w, near, size - step)


class RleHead(Standardized):
    """Pointwise convolution, flatten, linear to coordinates and their scales.

    The paper averages the last feature map; flattened, a few channels keep where things are.

    Args:
        out_channels: channels of the backbone's feature maps; the last map is used.
        strides: their strides.
        input_size_px: side of the network's input.
        num_keypoints: K.
        channels: of the convolution, for each cell.
        standardize: see `Standardized`.

    Raises:
        ConfigError: an input that is no multiple of the backbone's stride.
    """

    outputs = ("keypoints", "sigma")
    default_loss = "rle"

    def __init__(
        self,
        out_channels: tuple[int, ...],
        strides: tuple[int, ...],
        input_size_px: int,
        num_keypoints: int,
        channels: Count = 128,
        standardize: bool = True,
    ) -> None:
        super().__init__(num_keypoints, standardize)
        check_input(input_size_px, strides)
        cells = (input_size_px // strides[-1]) ** 2
        self.reduce = nn.Sequential(
            nn.Conv2d(out_channels[-1], channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.output = nn.Linear(channels * cells, num_keypoints * 4)
        self.probe = VisibilityProbe(out_channels[-1], num_keypoints)

    def forward(self, features: Features) -> PoseOutput:
        """Turn features into keypoints, ``sigma`` (B, K, 2) below 1, and scores 1 − mean sigma."""
        raw = self.output(self.reduce(features[-1]).flatten(1)).float()
        place, scale = raw.unflatten(1, (-1, 4)).chunk(2, dim=2)
        sigma = SMALLEST_SIGMA + (1 - SMALLEST_SIGMA) * scale.sigmoid()
        return {
            "keypoints": self.to_unit(place),
            "scores": 1 - sigma.mean(dim=2),
            "visibility_logits": self.probe(features),
            "sigma": sigma,
        }


class ResidualLogLikelihood(KeypointLoss):
    """Negative log-likelihood of the truth under the head's coordinates and scales.

    The error in units of sigma has the likelihood of a Laplace distribution, plus that of a
    normalising flow which learns what the Laplace misses. As in the authors' code both are
    densities of their own, and so sigma appears twice. It may be below 0.

    Args:
        hidden: width of the flow's layers.
        couplings: the flow's layers.
    """

    requires = ("keypoints", "sigma")

    def __init__(self, hidden: Count = 64, couplings: Count = 6) -> None:
        super().__init__()
        self.flow = RealNvp(hidden, couplings)

    def per_keypoint(
        self, output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the likelihood; keypoints outside the crop count as well."""
        labelled = visibility > 0
        sigma = torch.where(labelled.unsqueeze(-1), output["sigma"], 1.0)
        error = torch.where(labelled.unsqueeze(-1), output["keypoints"] - keypoints, 0.0) / sigma
        laplace = (error.abs() + math.log(2)).sum(dim=-1)
        flow: torch.Tensor = self.flow(error)
        loss = laplace - flow + 2 * sigma.log().sum(dim=-1)
        return loss, labelled


class RealNvp(nn.Module):
    """Normalising flow of the plane: density by invertible maps (Dinh et al., ICLR 2017).

    Each layer shifts and scales one coordinate by what a small network reads off the other; then
    they change places. As built it is the standard normal distribution.

    Args:
        hidden: width of the small networks.
        couplings: how many.
    """

    def __init__(self, hidden: int, couplings: int) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(_coupling(hidden) for _ in range(couplings))

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """Compute the log-density (…) of points (…, 2), in 32 bits also under autocast."""
        with torch.autocast(points.device.type, enabled=False):
            read, moved = points.float().unbind(dim=-1)
            log_density = torch.full_like(read, -math.log(2 * math.pi))
            for coupling in self.couplings:
                scale, shift = coupling(read.unsqueeze(-1)).unbind(dim=-1)
                scale = scale.tanh()  # bounded, for it is exponentiated
                read, moved = (moved - shift) * torch.exp(-scale), read
                log_density = log_density - scale
            return log_density - (read.square() + moved.square()) / 2


def _coupling(hidden: int) -> nn.Sequential:
    layers = nn.Sequential(
        nn.Linear(1, hidden),
        nn.LeakyReLU(),
        nn.Linear(hidden, hidden),
        nn.LeakyReLU(),
        nn.Linear(hidden, 2),
    )
    for parameter in layers[-1].parameters():
        nn.init.zeros_(parameter)
    return layers
