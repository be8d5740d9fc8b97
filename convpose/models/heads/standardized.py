"""Coordinates in units of the training keypoints' mean and standard deviation."""

import torch
from torch import nn


class Standardized(nn.Module):
    """Base of the heads whose raw numbers are offsets from a centre in units of a spread.

    ``keypoints = centre + spread · raw``: the crop's centre and 1 as built, the training part's
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
        """Raw numbers (B, K, 2) as unit coordinates."""
        return self.centre + self.spread * raw
