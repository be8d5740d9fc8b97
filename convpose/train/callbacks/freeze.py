"""Freeze the backbone while the new head learns."""

from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import Optimizer

from convpose.config.schema import Count


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
