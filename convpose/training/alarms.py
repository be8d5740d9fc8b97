"""Callbacks that tell when a training has gone wrong."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from convpose import atomic
from convpose.errors import ModelError
from convpose.metrics.spread import Spread
from convpose.training.processes import gather

log = logging.getLogger(__name__)


class CollapseAlarm(Callback):
    """Warns when the network gives (nearly) the same pose for every image.

    Batch norm with a squared error can settle on one mean pose. The spread of the predictions over
    the validation images, divided by the spread of the labels, is logged as ``val/spread``: 0 is a
    constant pose, about 1 is alive.

    Args:
        threshold: spread below which the alarm sounds.
        patience: epochs in a row that may lie below it.
    """

    def __init__(self, threshold: float = 0.1, patience: int = 3) -> None:
        self.threshold = threshold
        self.patience = patience
        self.epochs_below = 0
        self._spread = Spread()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add predictions and labels of the batch."""
        self._spread.to(batch["keypoints"].device)
        self._spread.update(outputs["keypoints"].detach(), batch["keypoints"])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the spreads, over the images of all processes."""
        ratio = float(self._spread.compute())
        self._spread.reset()
        pl_module.log("val/spread", ratio, logger=False, sync_dist=True)
        self.epochs_below = self.epochs_below + 1 if ratio < self.threshold else 0
        if self.epochs_below == self.patience and trainer.is_global_zero:
            log.warning(
                "collapse: for %d epochs the predicted poses have spread only %.3f of what the "
                "labels have; the network gives one mean pose. Try a higher optimizer.lr, "
                "head.standardize=true, data.crop=box or pretrained model.weights",
                self.patience,
                ratio,
            )


class NanGuard(Callback):
    """Stops a training whose loss is not finite and saves the batch's image ids in the run folder.

    ``nan_batch.json`` is a list, an entry for each process.

    Raises:
        ModelError: when it happens.
    """

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at the loss of the step; all processes stop together."""
        loss = outputs["loss"]
        broken = trainer.strategy.reduce((~torch.isfinite(loss)).float(), reduce_op="sum")
        if not broken:
            return
        where = {
            "epoch": trainer.current_epoch,
            "batch": batch_idx,
            "loss": str(float(loss)),
            "image_ids": list(batch["image_id"]),
        }
        path = Path(trainer.default_root_dir) / "nan_batch.json"
        everywhere = gather(where)
        if trainer.is_global_zero:
            atomic.write(path, json.dumps(everywhere, indent=2))
        own = f"the loss is {float(loss)}" if not torch.isfinite(loss) else ""
        raise ModelError(
            f"{own or 'a process has a loss that is not finite'} in epoch {trainer.current_epoch}, "
            f"batch {batch_idx}; its image ids are in {path}. Try a lower optimizer.lr, "
            "trainer.precision=32-true or trainer.gradient_clip_val=1"
        )
