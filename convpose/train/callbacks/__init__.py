"""Callbacks of a training; two small ones are here: moving average, frozen backbone."""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import get_ema_multi_avg_fn

from convpose.config.schema import Count, Share


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


class FreezeBackbone(Callback):
    """Keep the backbone as it is in the first epochs, with the statistics of its batch norms.

    Args:
        epochs: number of epochs; None for the whole training.
    """

    def __init__(self, epochs: Count | None = None) -> None:
        self.epochs = epochs
        self._frozen: list[nn.Parameter] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze or thaw; also after a resume, which starts at its own epoch."""
        module: Any = pl_module
        backbone: nn.Module = module.model.backbone
        frozen = self.epochs is None or trainer.current_epoch < self.epochs
        # several processes wait for each other's gradients of all that they began with
        backbone.requires_grad_(not frozen or trainer.world_size > 1)
        backbone.train(not frozen)  # Lightning leaves the mode as it is
        self._frozen = [*backbone.parameters()] if frozen else []

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Leave what is frozen out of the step, and out of the clipped norm."""
        for parameter in self._frozen:
            parameter.grad = None
