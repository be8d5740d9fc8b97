"""How much the predicted poses differ from image to image, against how much the labels do."""

import torch
from torch import Tensor
from torchmetrics import Metric


class Spread(Metric):
    """Root mean variance over the images of the predictions, divided by that of the labels.

    0 is a constant pose, 1 varies as much as people do. Its state is sums, so that batches may come
    in any size and processes add up.
    """

    full_state_update = False

    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        # number, sums and sums of squares of predictions and labels, each for K keypoints' x and y
        self.add_state("sums", torch.zeros(5, 1, 1, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, labelled: Tensor) -> None:
        """Add a batch of keypoints (B, K, 2), NaN in `labelled` where there is no label."""
        known = ~labelled.isnan()
        values = torch.stack([predicted, labelled]).double().where(known, 0.0) - 0.5 * known
        sums = [known.double().sum(0), *values.sum(1), *values.square().sum(1)]
        self.sums = self.sums + torch.stack(sums)

    def compute(self) -> Tensor:
        """The ratio, a scalar; NaN if nothing is labelled."""
        number, sums, squares = self.sums[0], self.sums[1:3], self.sums[3:5]
        variances = (squares / number - (sums / number).square()).clamp(min=0)
        predicted, labelled = variances.nanmean(dim=(1, 2)).sqrt()
        ratio: Tensor = predicted / labelled
        return ratio
