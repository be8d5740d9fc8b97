"""Callbacks that tell when a training has gone wrong."""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from convpose.errors import ModelError

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
        self._predicted: list[torch.Tensor] = []
        self._labelled: list[torch.Tensor] = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep predictions and labels of the batch."""
        self._predicted.append(outputs["keypoints"].detach())
        self._labelled.append(batch["keypoints"])

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the spreads."""
        predicted, labelled = torch.cat(self._predicted), torch.cat(self._labelled)
        self._predicted, self._labelled = [], []
        ratio = float(spread(predicted.masked_fill(labelled.isnan(), torch.nan)) / spread(labelled))
        pl_module.log("val/spread", ratio, logger=False, sync_dist=True)
        self.epochs_below = self.epochs_below + 1 if ratio < self.threshold else 0
        if self.epochs_below == self.patience:
            log.warning(
                "collapse: for %d epochs the predicted poses have spread only %.3f of what the "
                "labels have; the network gives one mean pose. Try a higher optimizer.lr, "
                "head.standardize=true, data.crop=box or pretrained model.weights",
                self.patience,
                ratio,
            )


def spread(keypoints: torch.Tensor) -> torch.Tensor:
    """Root mean variance over the images of keypoints (N, K, 2), NaN left out; a scalar."""
    variance = (keypoints - keypoints.nanmean(dim=0)).square().nanmean(dim=0)
    return variance.nanmean().sqrt()


class NanGuard(Callback):
    """Stops a training whose loss is not finite and saves the batch's image ids in the run folder.

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
        """Look at the loss of the step."""
        loss = outputs["loss"]
        if torch.isfinite(loss):
            return
        where = {
            "epoch": trainer.current_epoch,
            "batch": batch_idx,
            "loss": str(float(loss)),
            "image_ids": list(batch["image_id"]),
        }
        path = Path(trainer.default_root_dir) / "nan_batch.json"
        path.write_text(json.dumps(where, indent=2), encoding="utf-8")
        raise ModelError(
            f"the loss is {float(loss)} in epoch {trainer.current_epoch}, batch {batch_idx}; its "
            f"image ids are in {path}. Try a lower optimizer.lr, trainer.precision=32-true or "
            "trainer.gradient_clip_val=1"
        )
