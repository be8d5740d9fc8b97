"""SimCC: one classification for x and one for y, and their cross-entropy."""

import math

import torch
from torch import nn

from convpose.config.schema import Count, Positive
from convpose.errors import ConfigError
from convpose.models.keypoints import (
    KeypointLoss,
    Pyramid,
    VisibilityProbe,
    check_input,
    inside_crop,
)
from convpose.models.keypoints.heatmap import gaussian_along, near, summit
from convpose.models.pose_model import Features, PoseOutput


class SimccHead(nn.Module):
    """Light pyramid, one map a keypoint, then a linear layer from its cells to bins along x and y.

    The bins are finer than the input's pixels, so a coarse map does not cost accuracy. All
    keypoints share the linear layer, as in the paper.

    Args:
        out_channels: channels of the backbone's feature maps, finest first.
        strides: their strides.
        input_size_px: side of the network's input.
        num_keypoints: K.
        channels: of the pyramid.
        stride: of the maps; 32 puts the linear layer on the coarsest map of most backbones, as the
            paper does.
        split: bins a pixel of the input: N = input_size_px · split bins along each axis.
        window: bins from a peak to the two that, with it, tell where the keypoint lies. Two sigmas
            of the loss are best: bins next to each other differ by less than the network's noise.

    Raises:
        ConfigError: a stride that the pyramid cannot reach, an input that is no multiple of the
            backbone's stride, or fewer bins than twice the window and one.
    """

    outputs = ("simcc_logits",)
    default_loss = "simcc"

    def __init__(
        self,
        out_channels: tuple[int, ...],
        strides: tuple[int, ...],
        input_size_px: int,
        num_keypoints: int,
        channels: Count = 64,
        stride: int = 8,
        split: Positive = 2.0,
        window: Count = 8,
    ) -> None:
        super().__init__()
        check_input(input_size_px, strides)
        self.bins = round(input_size_px * split)
        if self.bins <= 2 * window:
            raise ConfigError(
                f"head.split={split} head.window={window}: expected more than twice as many bins "
                f"as the window, here there are {self.bins}; type head.split=2.0 head.window=8"
            )
        self.window = window
        self.pyramid = Pyramid(out_channels, strides, channels, stride)
        self.maps = nn.Conv2d(channels, num_keypoints, 1)
        self.output = nn.Linear((input_size_px // stride) ** 2, 2 * self.bins)
        self.probe = VisibilityProbe(out_channels[-1], num_keypoints)

    def forward(self, features: Features) -> PoseOutput:
        """Turn features into keypoints, scores and ``simcc_logits`` (B, K, 2, N), x first."""
        maps = self.maps(self.pyramid(features)).flatten(2)
        logits = self.output(maps).float().unflatten(2, (2, self.bins))
        keypoints, scores = decode_axes(logits, self.window)
        return {
            "keypoints": keypoints,
            "scores": scores,
            "visibility_logits": self.probe(features),
            "simcc_logits": logits,
        }

    def check_loss(self, loss: nn.Module) -> None:
        """Refuse a window below the loss's sigma: within it the Gaussian is nearly flat.

        Raises:
            ConfigError: with a window that is wide enough.
        """
        if isinstance(loss, SimccCrossEntropy) and self.window < loss.sigma:
            raise ConfigError(
                f"head.window={self.window} loss.sigma={loss.sigma}: bins within a sigma differ "
                f"too little to tell where a peak is; type head.window={math.ceil(2 * loss.sigma)} "
                f"or loss.sigma={self.window / 2}"
            )


def decode_axes(logits: torch.Tensor, window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the peaks along both axes, to a fraction of a bin.

    Args:
        logits: (B, K, 2, N), x first.
        window: bins from a peak to the two on the same Gaussian.

    Returns:
        Unit keypoints (B, K, 2), and as score (B, K) the product of both axes' shares within the
        window.
    """
    share = logits.softmax(dim=3)
    peak = share.argmax(dim=3, keepdim=True)
    within = (share * near(peak, logits.shape[3], window)).sum(dim=3)
    return summit(share, peak, window), (within[:, :, 0] * within[:, :, 1]).clamp(0, 1)


class SimccCrossEntropy(KeypointLoss):
    """Cross-entropy of both axes to Gaussians around the keypoint, summed (Li et al., ECCV 2022).

    The Gaussian is the paper's label smoothing: a bin beside the right one is nearly right. The
    gradient is that of the Kullback–Leibler divergence.

    Args:
        sigma: of the Gaussian in bins.
    """

    requires = ("simcc_logits",)

    def __init__(self, sigma: Positive = 4.0) -> None:
        super().__init__()
        self.sigma = sigma

    def per_keypoint(
        self, output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compare with the Gaussians; keypoints outside the crop do not count."""
        logits = output["simcc_logits"]
        safe, inside = inside_crop(keypoints, visibility)
        target = gaussian_along(safe, logits.shape[-1], self.sigma).exp()
        loss = -(target * logits.log_softmax(dim=3)).sum(dim=(2, 3))
        return loss, inside
