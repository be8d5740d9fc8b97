"""Heatmaps, one a keypoint: read off at their peak or at their mean, and the losses of both."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from convpose.config.schema import Count, Natural, NotNegative, Positive
from convpose.errors import ConfigError
from convpose.models.keypoints import (
    KeypointLoss,
    Pyramid,
    VisibilityProbe,
    check_input,
    inside_crop,
)
from convpose.models.pose_model import Features, PoseOutput


class PeakHead(nn.Module):
    """Base of the heads with heatmaps, which are read off at their peak.

    Args:
        window: see `HeatmapHead`.
        blur: see `decode`.
    """

    outputs: tuple[str, ...] = ("heatmap_logits",)
    default_loss = "heatmap"
    probe: VisibilityProbe

    def __init__(self, window: int, blur: int) -> None:
        super().__init__()
        self.window = window
        self.blur = blur

    def heatmaps(self, features: Features) -> torch.Tensor:
        """Turn features into logits (B, K, S, S), float32."""
        raise NotImplementedError

    def forward(self, features: Features) -> PoseOutput:
        """Turn features into keypoints, scores and ``heatmap_logits`` (B, K, S, S)."""
        logits = self.heatmaps(features)
        keypoints, scores = self.decode(logits)
        return {
            "keypoints": keypoints,
            "scores": scores,
            "visibility_logits": self.probe(features),
            "heatmap_logits": logits,
        }

    def decode(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Find unit keypoints (B, K, 2) and scores (B, K) in logits (B, K, S, S)."""
        return decode(logits, self.window, self.blur)


def check_cells(input_size_px: int, stride: int) -> None:
    """Refuse heatmaps in which no peak has a neighbour on both sides.

    Raises:
        ConfigError: fewer than three cells a side.
    """
    if input_size_px // stride < 3:
        raise ConfigError(
            f"data.input_size_px={input_size_px} head.stride={stride}: expected at least three "
            f"cells a side, an input of {3 * stride} px or a smaller stride"
        )


class HeatmapHead(PeakHead):
    """Light pyramid, then one logit a cell and keypoint; a softmax over the cells is the heatmap.

    Args:
        out_channels: channels of the backbone's feature maps, finest first.
        strides: their strides.
        input_size_px: side of the network's input.
        num_keypoints: K.
        channels: of the pyramid.
        stride: of the heatmaps: S = input_size_px / stride cells a side.
        window: cells around the peak that speak for it: their share of the heatmap is the score.
        blur: see `decode`.

    Raises:
        ConfigError: a stride that the pyramid cannot reach, an input that is no multiple of the
            backbone's stride or leaves fewer than three cells.
    """

    def __init__(
        self,
        out_channels: tuple[int, ...],
        strides: tuple[int, ...],
        input_size_px: int,
        num_keypoints: int,
        channels: Count = 64,
        stride: int = 4,
        window: Natural = 2,
        blur: Natural = 0,
    ) -> None:
        super().__init__(window, blur)
        check_input(input_size_px, strides)
        self.pyramid = Pyramid(out_channels, strides, channels, stride)
        check_cells(input_size_px, stride)
        self.output = nn.Conv2d(channels, num_keypoints, 1)
        self.probe = VisibilityProbe(out_channels[-1], num_keypoints)

    def heatmaps(self, features: Features) -> torch.Tensor:
        """Turn features into logits (B, K, S, S), float32."""
        logits: torch.Tensor = self.output(self.pyramid(features))
        return logits.float()


class IntegralHead(HeatmapHead):
    """`HeatmapHead` with a soft-argmax (Sun et al., ECCV 2018): exact, and differentiable.

    Its keypoints cannot leave the crop. The arguments are those of `HeatmapHead`, but the mean is
    over all cells; the score is the heatmap's share within ``window`` cells of the keypoint.
    """

    outputs = ("keypoints", "heatmap_logits")
    default_loss = "integral"

    def decode(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Average the cells: unit keypoints (B, K, 2) and scores (B, K) of logits (B, K, S, S)."""
        side = logits.shape[-1]
        heatmap = logits.flatten(2).softmax(dim=2).view(logits.shape)
        centre = (torch.arange(side, device=logits.device) + 0.5) / side
        x = (heatmap.sum(dim=2) * centre).sum(dim=2)
        y = (heatmap.sum(dim=3) * centre).sum(dim=2)
        keypoints = torch.stack([x, y], dim=2)
        away = (centre - keypoints.unsqueeze(3)).abs() * side  # (B, K, 2, S)
        close = (away <= self.window + 0.5).float()
        within = heatmap * close[:, :, 0].unsqueeze(2) * close[:, :, 1].unsqueeze(3)
        return keypoints, within.sum(dim=(2, 3)).clamp(0, 1)


def decode(logits: torch.Tensor, window: int, blur: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the peak of each heatmap, to a fraction of a cell.

    Args:
        logits: (B, K, S, S), S at least 3.
        window: cells around the peak that are summed to its profiles along x and y.
        blur: number of 3 × 3 means over the heatmap before its peak is looked for; three are
            almost a Gaussian of 1.4 cells. They count a peak's surroundings as well (Zhang et
            al., CVPR 2020), and are no convolutions, which an int8 export would round.

    Returns:
        Unit keypoints (B, K, 2), and the heatmap's share within the window (B, K) as score.
    """
    side = logits.shape[-1]
    heatmap = smooth = logits.flatten(2).softmax(dim=2).view(logits.shape)
    for _ in range(blur):
        smooth = F.avg_pool2d(smooth, 3, stride=1, padding=1)
    peak = smooth.flatten(2).argmax(dim=2, keepdim=True)
    row = torch.div(peak, side, rounding_mode="trunc")  # not //, which is ten nodes of ONNX
    cell = torch.stack([peak - row * side, row], dim=2)  # (B, K, 2, 1), x first
    near_x, near_y = near(cell, side, window).unbind(dim=2)  # (B, K, S) each
    # no matrix products: autocast would compute them in bfloat16
    across = (smooth * near_y.unsqueeze(3)).sum(dim=2)
    down = (smooth * near_x.unsqueeze(2)).sum(dim=3)
    within = (heatmap * near_x.unsqueeze(2) * near_y.unsqueeze(3)).sum(dim=(2, 3))
    profiles = torch.stack([across, down], dim=2)
    return summit(profiles, cell), within.clamp(0, 1)


def near(peak: torch.Tensor, side: int, window: int) -> torch.Tensor:
    """Mask (…, side) with 1 the cells within `window` of the peaks (…, 1), with 0 the others."""
    cell = torch.arange(side, device=peak.device)
    return ((cell - peak).float().abs() <= window).float()


def summit(profile: torch.Tensor, peak: torch.Tensor, step: int = 1) -> torch.Tensor:
    """Locate the maximum of profiles between the cells: exact for a Gaussian.

    A parabola is laid through the logarithms of the peak and its neighbours, at the border of the
    three outermost cells. (A mean around the peak would lean to the middle of the peak's cell, and
    away from the border.) Where it has no maximum, the middle of the peak's cell is taken.

    Args:
        profile: (…, N), not negative, N at least 2 · step + 1.
        peak: (…, 1) cell of the maximum.
        step: cells to the neighbours.

    Returns:
        Unit coordinates (…), from 0 to 1.
    """
    side = profile.shape[-1]
    middle = peak.clamp(step, side - 1 - step)
    height = profile.clamp(min=1e-30).log()
    cell = torch.arange(side, device=peak.device)  # not gathered: Core ML has no whole numbers here
    three = middle.unsqueeze(-2) + torch.arange(-step, step + 1, step, device=peak.device)[:, None]
    left, top, right = (height.unsqueeze(-2) * (cell == three).float()).sum(dim=-1).split(1, dim=-1)
    bend = 2 * top - left - right
    vertex = ((right - left) / (2 * bend.clamp(min=1e-6))).clamp(-1.5, 1.5) * step
    offset = torch.where(bend > 1e-6, vertex, peak - middle)
    return ((middle + offset + 0.5) / side).clamp(0, 1).squeeze(-1)


class HeatmapCrossEntropy(KeypointLoss):
    """Cross-entropy of the softmax heatmap to a Gaussian around the keypoint.

    The softmax makes the cells of a map compete, so no weighting of foreground against background
    is needed, and a keypoint costs the same whatever the number of cells.

    Args:
        sigma: of the Gaussian in cells.
    """

    requires = ("heatmap_logits",)

    def __init__(self, sigma: Positive = 1.0) -> None:
        super().__init__()
        self.sigma = sigma

    def per_keypoint(
        self, output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compare with the Gaussian; keypoints outside the crop do not count."""
        logits = output["heatmap_logits"]
        safe, inside = inside_crop(keypoints, visibility)
        target = gaussian(safe, logits.shape[-1], self.sigma)
        log_heatmap = logits.flatten(2).log_softmax(dim=2)
        loss = -(target.flatten(2) * log_heatmap).sum(dim=2)
        return loss, inside


class IntegralLoss(KeypointLoss):
    """L1 of the coordinates, plus the heatmap's divergence from a Gaussian around the keypoint.

    Without the second term the heatmap may have any shape, even two peaks with the keypoint between
    them (Jensen–Shannon regularisation; Nibali et al., 2018).

    At the crop's border the Gaussian is cut off, and both terms disagree: the mean of what is left
    lies 0.8 cells further in for a keypoint on the border itself, half a cell for one in the middle
    of the outermost cell, an eighth of a cell in the next.

    Args:
        weight: of the divergence, which is at most ln 2; 0 leaves L1 alone, that of Sun et al.
        sigma: of the Gaussian in cells.
    """

    requires = ("keypoints", "heatmap_logits")

    def __init__(self, weight: NotNegative = 0.5, sigma: Positive = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.sigma = sigma

    def per_keypoint(
        self, output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add both terms; keypoints outside the crop do not count."""
        safe, inside = inside_crop(keypoints, visibility)
        logits = output["heatmap_logits"]
        along = gaussian_along(safe, logits.shape[-1], self.sigma)
        target = along[:, :, 1].unsqueeze(3) + along[:, :, 0].unsqueeze(2)
        divergence = jensen_shannon(logits.flatten(2).log_softmax(dim=2), target.flatten(2))
        error = torch.where(inside.unsqueeze(2), output["keypoints"] - safe, 0.0)
        return error.abs().mean(dim=2) + self.weight * divergence, inside


def jensen_shannon(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """Measure the Jensen–Shannon divergence of two distributions, (…, N) logarithms; 0 to ln 2."""
    log_mean = torch.logaddexp(log_p, log_q) - math.log(2)
    kl = log_p.exp() * (log_p - log_mean) + log_q.exp() * (log_q - log_mean)
    return kl.sum(dim=-1) / 2


def gaussian(keypoints: torch.Tensor, side: int, sigma: float) -> torch.Tensor:
    """Draw heatmaps (B, K, side, side) of unit keypoints (B, K, 2), each with the sum 1."""
    along = gaussian_along(keypoints, side, sigma).exp()
    return along[:, :, 1].unsqueeze(3) * along[:, :, 0].unsqueeze(2)


def gaussian_along(keypoints: torch.Tensor, side: int, sigma: float) -> torch.Tensor:
    """Draw the logarithms (B, K, 2, side) of Gaussians along x and y, each with the sum 1."""
    centre = (torch.arange(side, device=keypoints.device) + 0.5) / side
    away = (centre - keypoints.unsqueeze(-1)) * side / sigma
    return torch.log_softmax(-away.square() / 2, dim=-1)
