"""Residual log-likelihood head: coordinates with their likely error (Li et al., ICCV 2021)."""

from torch import nn

from convpose.errors import ConfigError
from convpose.models.heads.heatmap import check_input
from convpose.models.heads.standardized import Standardized
from convpose.models.heads.visibility import VisibilityProbe
from convpose.models.pose_model import Features, PoseOutput

SMALLEST_SIGMA = 0.002  # half a pixel of 256: without a bound, an image known by heart has none


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
        ConfigError: no channel, or an input that is no multiple of the backbone's stride.
    """

    gives = ("keypoints", "sigma")

    def __init__(
        self,
        out_channels: tuple[int, ...],
        strides: tuple[int, ...],
        input_size_px: int,
        num_keypoints: int,
        channels: int = 128,
        standardize: bool = True,
    ) -> None:
        super().__init__(num_keypoints, standardize)
        check_input(input_size_px, strides)
        if channels < 1:
            raise ConfigError(f"head.channels={channels}: expected at least 1")
        cells = (input_size_px // strides[-1]) ** 2
        self.reduce = nn.Sequential(
            nn.Conv2d(out_channels[-1], channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.output = nn.Linear(channels * cells, num_keypoints * 4)
        self.probe = VisibilityProbe(out_channels[-1], num_keypoints)

    def forward(self, features: Features) -> PoseOutput:
        """Features to keypoints, ``sigma`` (B, K, 2) below 1, and scores: 1 less its mean."""
        raw = self.output(self.reduce(features[-1]).flatten(1)).float()
        place, scale = raw.unflatten(1, (-1, 4)).chunk(2, dim=2)
        sigma = SMALLEST_SIGMA + (1 - SMALLEST_SIGMA) * scale.sigmoid()
        return {
            "keypoints": self.to_unit(place),
            "scores": 1 - sigma.mean(dim=2),
            "visibility_logits": self.probe(features),
            "sigma": sigma,
        }
