"""Heads and losses, a file for each way to say where a keypoint is; here is what they share.

A head maps features to a `PoseOutput`. It may declare

- ``outputs``: names of the values that a loss may train, ``("keypoints",)`` if it says nothing;
- ``default_loss``: the name in ``conf/loss`` to propose for it;
- ``set_statistics(mean, std)``: called once with those of the training keypoints, (K, 2) each;
- ``check_loss(loss)``: raises ConfigError for a loss whose settings do not suit its own.

A loss maps output, keypoints and visibility to a scalar. It may declare ``requires``: names of the
outputs that it trains. `convpose.train.build.check_pair` holds one against the other.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from convpose.errors import ConfigError
from convpose.models.pose_model import Features, PoseOutput


class Pyramid(nn.Module):
    """Feature maps of a backbone, merged from coarse to fine into one map (Lin et al., 2017).

    From the coarsest map on, each level is doubled in size, the backbone's map of that stride is
    added where there is one, and a depthwise separable convolution mixes. A backbone with one
    coarse map, such as VGG, is so doubled to the stride by convolutions alone.

    Args:
        out_channels: channels of the backbone's maps, finest first.
        strides: their strides.
        channels: of the merged map.
        stride: of the merged map: its side is the input's divided by it.

    Raises:
        ConfigError: a stride that doubling cannot reach.
    """

    def __init__(
        self, out_channels: Sequence[int], strides: Sequence[int], channels: int, stride: int
    ) -> None:
        super().__init__()
        levels = [strides[-1]]
        while levels[-1] > stride and levels[-1] % 2 == 0:
            levels.append(levels[-1] // 2)
        if levels[-1] != stride:
            raise ConfigError(
                f"head.stride={stride}: expected {strides[-1]} or a half, quarter … of it"
            )
        sources = dict(zip(strides, range(len(strides)), strict=True))
        self._sources = [sources.get(level) for level in levels]  # position in the features
        self.lateral = nn.ModuleList(
            nn.Identity() if i is None else nn.Conv2d(out_channels[i], channels, 1)
            for i in self._sources
        )
        self.mix = nn.ModuleList(_separable(channels) for _ in levels)

    def forward(self, features: Features) -> torch.Tensor:
        """Merge features to one map (B, channels, S / stride, S / stride)."""
        merged: torch.Tensor = self.mix[0](self.lateral[0](features[-1]))
        finer = zip(self._sources[1:], self.lateral[1:], self.mix[1:], strict=True)
        for source, lateral, mix in finer:
            merged = F.interpolate(merged, scale_factor=2.0, mode="nearest")
            if source is not None:
                merged = merged + lateral(features[source])
            merged = mix(merged)
        return merged


def _separable(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


class VisibilityProbe(nn.Module):
    """Linear probe on the mean of the coarsest feature map.

    It sees the features detached, so the pose is learned as if the probe were not there.

    Args:
        channels: of the coarsest map.
        num_keypoints: K.
    """

    def __init__(self, channels: int, num_keypoints: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, num_keypoints)

    def forward(self, features: Features) -> torch.Tensor:
        """Guess logits (B, K) of "visible" against "occluded"."""
        logits: torch.Tensor = self.linear(features[-1].detach().mean(dim=(2, 3)))
        return logits.float()


def visibility_loss(logits: torch.Tensor, visibility: torch.Tensor) -> torch.Tensor:
    """Average the cross-entropy of visible (2) against occluded (1) over labelled keypoints.

    Args:
        logits: (B, K).
        visibility: (B, K) of 0, 1, 2; 0 does not count. LSPET labels no keypoint as occluded, so a
            network that saw LSPET only answers "visible" always.

    Returns:
        Scalar; 0 for a batch without labels.
    """
    labelled = visibility > 0
    loss = F.binary_cross_entropy_with_logits(logits, (visibility == 2).float(), reduction="none")
    return (loss * labelled).sum() / labelled.sum().clamp(min=1)


class Standardized(nn.Module):
    """Base of the heads whose raw numbers are offsets from a centre in units of a spread.

    ``keypoints = centre + spread · raw``: the crop's centre and 1 as built, the training subset's
    mean pose and standard deviation after `set_statistics`. Both are buffers that a checkpoint
    keeps.

    Args:
        num_keypoints: K.
        standardize: take the statistics of the training keypoints as centre and spread.
    """

    centre: torch.Tensor
    spread: torch.Tensor

    def __init__(self, num_keypoints: int, standardize: bool) -> None:
        super().__init__()
        self.standardize = standardize
        self.register_buffer("centre", torch.full((num_keypoints, 2), 0.5))
        self.register_buffer("spread", torch.ones(num_keypoints, 2))

    def set_statistics(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        """Take mean (K, 2) and standard deviation (K, 2) of the training keypoints, if wanted."""
        if self.standardize:
            self.centre.copy_(mean)
            self.spread.copy_(std)

    def to_unit(self, raw: torch.Tensor) -> torch.Tensor:
        """Convert raw numbers (B, K, 2) to unit coordinates."""
        return self.centre + self.spread * raw


class KeypointLoss(nn.Module):
    """Base of the losses; they differ in `per_keypoint`.

    Attributes:
        requires: keys of the output that it trains.
    """

    requires: tuple[str, ...]

    def per_keypoint(
        self, output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the loss (B, K) of each keypoint and a mask (B, K) of those that count.

        Arguments as in `forward`. Masked keypoints must give finite values and zero gradient.
        """
        raise NotImplementedError

    def forward(
        self, output: PoseOutput, keypoints: torch.Tensor, visibility: torch.Tensor
    ) -> torch.Tensor:
        """Compute the loss of a batch.

        Args:
            output: with the keys that the loss `requires`.
            keypoints: (B, K, 2) ground truth in unit coordinates, NaN where unlabelled.
            visibility: (B, K) of 0, 1, 2.

        Returns:
            Mean over the keypoints that count; 0 where there are none.
        """
        loss, counts = self.per_keypoint(output, keypoints, visibility)
        return (loss * counts).sum() / counts.sum().clamp(min=1)


def inside_crop(
    keypoints: torch.Tensor, visibility: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask (B, K) the keypoints that are labelled and within the crop; the others have no cell.

    Returns:
        Keypoints (B, K, 2), with the crop's centre in place of the others, and the mask.
    """
    inside = (visibility > 0) & ((keypoints >= 0) & (keypoints < 1)).all(dim=-1)  # NaN is not
    return torch.where(inside.unsqueeze(-1), keypoints, 0.5).float(), inside


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
