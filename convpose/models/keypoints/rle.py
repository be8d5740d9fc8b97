"""Residual log-likelihood estimation: coordinates with scales, and a learned error density."""

import math

import torch
from torch import nn

from convpose.config.schema import Count
from convpose.models.keypoints import KeypointLoss, Standardized, VisibilityProbe, check_input
from convpose.models.pose_model import Features, PoseOutput

SMALLEST_SIGMA = 0.002  # half a pixel of 256; unbounded, sigma tends to 0 on images known by heart


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
