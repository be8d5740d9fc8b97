"""Heatmap head: one map a keypoint, decoded to a fraction of a cell."""

import torch
from torch import nn

from convpose.errors import ConfigError
from convpose.models.heads.pyramid import Pyramid
from convpose.models.heads.visibility import VisibilityProbe
from convpose.models.pose_model import Features, PoseOutput


class HeatmapHead(nn.Module):
    """Light pyramid, then one logit a cell and keypoint; a softmax over the cells is the heatmap.

    Args:
        out_channels: channels of the backbone's feature maps, finest first.
        strides: their strides.
        input_size_px: side of the network's input.
        num_keypoints: K.
        channels: of the pyramid.
        stride: of the heatmaps: S = input_size_px / stride cells a side.
        window: the keypoint is the mean of the heatmap within so many cells of its peak.

    Raises:
        ConfigError: a stride that the pyramid cannot reach, or an input that is no multiple of the
            backbone's stride.
    """

    def __init__(
        self,
        out_channels: tuple[int, ...],
        strides: tuple[int, ...],
        input_size_px: int,
        num_keypoints: int,
        channels: int = 64,
        stride: int = 4,
        window: int = 2,
    ) -> None:
        super().__init__()
        check_input(input_size_px, strides)
        self.window = window
        self.pyramid = Pyramid(out_channels, strides, channels, stride)
        self.output = nn.Conv2d(channels, num_keypoints, 1)
        self.probe = VisibilityProbe(out_channels[-1], num_keypoints)

    def forward(self, features: Features) -> PoseOutput:
        """Features to keypoints, scores and ``heatmap_logits`` (B, K, S, S)."""
        logits = self.output(self.pyramid(features)).float()
        keypoints, scores = decode(logits, self.window)
        return {
            "keypoints": keypoints,
            "scores": scores,
            "visibility_logits": self.probe(features),
            "heatmap_logits": logits,
        }


def decode(logits: torch.Tensor, window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Peak of each heatmap, to a fraction of a cell.

    Args:
        logits: (B, K, S, S).
        window: cells around the peak whose mean position is taken.

    Returns:
        Unit keypoints (B, K, 2), and the heatmap's share within the window (B, K) as score.
    """
    side = logits.shape[-1]
    heatmap = logits.flatten(2).softmax(dim=2)
    peak = heatmap.argmax(dim=2, keepdim=True)
    cell = torch.arange(side, device=logits.device)
    near_x = ((cell - peak % side).abs() <= window).float()  # (B, K, S)
    near_y = ((cell - peak // side).abs() <= window).float()
    local = heatmap.view(logits.shape) * near_x.unsqueeze(2) * near_y.unsqueeze(3)
    score = local.sum(dim=(2, 3))
    centre = (cell + 0.5) / side
    x = (local.sum(dim=2) * centre).sum(dim=2) / score
    y = (local.sum(dim=3) * centre).sum(dim=2) / score
    return torch.stack([x, y], dim=2), score.clamp(0, 1)


def check_input(input_size_px: int, strides: tuple[int, ...]) -> None:
    """Refuse an input that the strides do not divide: maps would not fit on each other.

    Raises:
        ConfigError: with the next sizes that do.
    """
    if input_size_px % strides[-1]:
        lower = input_size_px // strides[-1] * strides[-1]
        raise ConfigError(
            f"data.input_size_px={input_size_px}: expected a multiple of {strides[-1]} for this "
            f"head, {max(lower, strides[-1])} or {lower + strides[-1]}"
        )
