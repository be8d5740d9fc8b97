"""Ema: validate and save a moving average of the weights."""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

Pairs = tuple[list[torch.Tensor], list[torch.Tensor]]


class Ema(WeightAveraging):
    """Exponential moving average of weights and statistics, over all tensors at once.

    Lightning's EMAWeightAveraging takes them one by one, eight small operations for each, at every
    step. It also makes its copy before the network is moved to a GPU and leaves it behind, so that
    every step brings all weights to the CPU.

    Args:
        decay: share of the average that a step keeps.

    Raises:
        ValueError: a share out of 0 to 1.
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = decay
        super().__init__(multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]

    @property
    def state_key(self) -> str:
        """The name of Lightning's class, by which earlier runs know it."""
        return "EMAWeightAveraging"

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Follow the network to its device; the count of the steps stays on the CPU."""
        assert self._average_model is not None
        self._average_model.module.to(pl_module.device)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Take the step in, if it was one of the optimizer; nothing waits for the device.

        Whole numbers, the batches that a norm has seen, are those of the network.
        """
        if trainer.global_step <= self._latest_update_step:
            return
        self._latest_update_step = trainer.global_step
        average = self._average_model
        assert average is not None
        first = average.n_averaged == 0
        copied: Pairs = ([], [])
        averaged: Pairs = ([], [])
        for own, new in zip(_tensors(average.module), _tensors(pl_module), strict=True):
            pairs = copied if first or not own.is_floating_point() else averaged
            pairs[0].append(own)
            pairs[1].append(new)
        with torch.no_grad():
            if copied[0]:
                torch._foreach_copy_(*copied)
            if averaged[0]:
                torch._foreach_lerp_(*averaged, 1 - self.decay)
        average.n_averaged += 1


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]
