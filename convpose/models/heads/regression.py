"""The paper's head: coordinates by two linear layers on the flattened features."""

import torch
from torch import nn

from convpose.errors import ConfigError
from convpose.models.pose_model import Features, PoseOutput


class RegressionHead(nn.Module):
    """Flatten, linear, ReLU, linear to 2K coordinates.

    The network's raw numbers are offsets from a centre in units of a spread,
    ``keypoints = centre + spread · raw``: the crop's centre and 1 as built, the training part's
    mean pose and standard deviation after `set_statistics`. Both are buffers that a checkpoint
    keeps.

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

    centre: torch.Tensor
    spread: torch.Tensor

    def __init__(
        self,
        out_channels: tuple[int, ...],
        strides: tuple[int, ...],
        input_size_px: int,
        num_keypoints: int,
        hidden: int = 512,
        standardize: bool = True,
    ) -> None:
        super().__init__()
        cells = (input_size_px // strides[-1]) ** 2
        if cells == 0 or hidden < 1:
            raise ConfigError(
                f"data.input_size_px={input_size_px} head.hidden={hidden}: expected an input of at "
                f"least {strides[-1]} px and a hidden layer of at least 1"
            )
        self.standardize = standardize
        self.num_keypoints = num_keypoints
        self.hidden = nn.Linear(out_channels[-1] * cells, hidden)
        self.relu = nn.ReLU(inplace=True)
        self.output = nn.Linear(hidden, num_keypoints * 2)
        self.register_buffer("centre", torch.full((num_keypoints, 2), 0.5))
        self.register_buffer("spread", torch.ones(num_keypoints, 2))

    def set_statistics(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Take mean (K, 2) and standard deviation (K, 2) of the training keypoints, if wanted."""
        if self.standardize:
            self.centre.copy_(mean)
            self.spread.copy_(std)

    def forward(self, features: Features) -> PoseOutput:
        """Features to keypoints (B, K, 2) and scores (B, K): a half, for it cannot tell."""
        hidden = self.relu(self.hidden(features[-1].flatten(1)))
        raw = self.output(hidden).float().view(-1, self.num_keypoints, 2)
        return {
            "keypoints": self.centre + self.spread * raw,
            "scores": raw.new_full(raw.shape[:2], 0.5),
        }
