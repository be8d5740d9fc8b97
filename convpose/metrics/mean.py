"""A weighted mean over batches and processes."""

import torch
from torch import Tensor
from torchmetrics import Metric


class WeightedMean(Metric):
    """Sum of value × weight over the sum of weights; NaN stays NaN.

    Lightning's own mean over several processes divides by a count that it rounds down, and
    torchmetrics' MeanMetric forgets the weights when it is to leave NaN alone.
    """

    full_state_update = False

    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("sums", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, value: Tensor, weight: Tensor) -> None:
        """Add a batch: two scalars; nothing waits for the device."""
        value, weight = value.detach().double(), weight.double()
        self.sums = self.sums + torch.stack([value * weight, weight])

    def compute(self) -> Tensor:
        """The mean, a scalar."""
        return (self.sums[0] / self.sums[1]).float()
