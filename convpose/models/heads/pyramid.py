"""The light feature pyramid in front of the spatial heads."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from convpose.errors import ConfigError
from convpose.models.pose_model import Features


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
        ConfigError: a stride that doubling cannot reach, or no channel.
    """

    def __init__(
        self, out_channels: Sequence[int], strides: Sequence[int], channels: int, stride: int
    ) -> None:
        super().__init__()
        if channels < 1:
            raise ConfigError(f"head.channels={channels}: expected at least 1")
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
        """Features to one map (B, channels, S / stride, S / stride)."""
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
