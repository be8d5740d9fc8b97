"""Ema: validate and save a moving average of the weights."""

from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema(WeightAveraging):
    """Exponential moving average of weights and statistics, over all tensors at once.

    Lightning's EMAWeightAveraging takes them one by one, eight small operations for each, at every
    step.

    Args:
        decay: share of the average that a step keeps.

    Raises:
        ValueError: a share out of 0 to 1.
    """

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__(multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]

    @property
    def state_key(self) -> str:
        """The name of Lightning's class, by which earlier runs know it."""
        return "EMAWeightAveraging"
