"""The paper's head: coordinates by two linear layers on the flattened features."""

from torch import nn

from convpose.errors import ConfigError
from convpose.models.heads.standardized import Standardized
from convpose.models.pose_model import Features, PoseOutput


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

    gives = ("keypoints",)

    def __init__(
        self,
        out_channels: tuple[int, ...],
        strides: tuple[int, ...],
        input_size_px: int,
        num_keypoints: int,
        hidden: int = 512,
        standardize: bool = True,
    ) -> None:
        super().__init__(num_keypoints, standardize)
        cells = (input_size_px // strides[-1]) ** 2
        if cells == 0 or hidden < 1:
            raise ConfigError(
                f"data.input_size_px={input_size_px} head.hidden={hidden}: expected an input of at "
                f"least {strides[-1]} px and a hidden layer of at least 1"
            )
        self.num_keypoints = num_keypoints
        self.hidden = nn.Linear(out_channels[-1] * cells, hidden)
        self.relu = nn.ReLU(inplace=True)
        self.output = nn.Linear(hidden, num_keypoints * 2)

    def forward(self, features: Features) -> PoseOutput:
        """Features to keypoints (B, K, 2) and scores (B, K): a half, for it cannot tell."""
        hidden = self.relu(self.hidden(features[-1].flatten(1)))
        raw = self.output(hidden).float().view(-1, self.num_keypoints, 2)
        return {
            "keypoints": self.to_unit(raw),
            "scores": raw.new_full(raw.shape[:2], 0.5),
        }
