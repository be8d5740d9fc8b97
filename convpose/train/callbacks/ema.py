"""Validate and save a moving average of the weights."""

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from convpose.config.schema import Share


class Ema(WeightAveraging):
    """Exponential moving average of weights and statistics, over all tensors at once.

    Lightning's EMAWeightAveraging takes them one by one, eight small operations for each, at every
    step. It also makes its copy before the network is moved to a GPU and leaves it behind, so that
    every step brings all weights to the CPU.

    Args:
        decay: share of the average that a step keeps.
    """

    def __init__(self, decay: Share = 0.999) -> None:
        super().__init__(multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]

    @property
    def state_key(self) -> str:
        """Name Lightning's class, under which earlier runs saved the state."""
        return "EMAWeightAveraging"

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the average to the network's device; the count of the steps stays on the CPU."""
        assert self._average_model is not None
        self._average_model.module.to(pl_module.device)
