"""Notice that a training has gone wrong: a collapsed network, a loss that is not finite."""

import json
import logging
import math
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from convpose import files
from convpose.errors import ModelError
from convpose.metrics.pose_metrics import PredictionSpread
from convpose.train.distributed import gather

log = logging.getLogger(__name__)


class CollapseAlarm(Callback):
    """Warn when the network gives (nearly) the same pose for every image.

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
        self._spread = PredictionSpread()

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
        """Compare the spreads over the images of all processes, and warn."""
        ratio = float(self._spread.compute())
        self._spread.reset()
        pl_module.log("val/spread", ratio, logger=False, sync_dist=True)
        self.epochs_below = self.epochs_below + 1 if ratio < self.threshold else 0
        if self.epochs_below == self.patience and trainer.is_global_zero:
            log.warning(
                "collapse: for %d epochs the predicted poses have spread only %.3f of what the "
                "labels have; the network gives one mean pose. Try another "
                "optimizer.lr (lr_find=true proposes one), head.standardize=true, data.crop=box or "
                "pretrained model.weights",
                self.patience,
                ratio,
            )


class NanGuard(Callback):
    """Stop a training whose loss is not finite and save the batch's image ids in the run folder.

    ``nan_batch.json`` is a list, an entry for each process.

    To keep a GPU busy, the loss of a step is checked while the next one is computed. Only the last
    step of an epoch is waited for, before the network is validated and saved.

    Raises:
        ModelError: when it happens.
    """

    def __init__(self) -> None:
        # of each step: epoch, batch and image ids; its loss, and how many processes have one that
        # is not finite; on a GPU, when the two may be read
        self._unseen: list[tuple[dict[str, Any], torch.Tensor, torch.cuda.Event | None]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Copy the loss to the host asynchronously; check the previous step's."""
        loss = outputs["loss"].detach().float()
        broken = trainer.strategy.reduce((~torch.isfinite(loss)).float(), reduce_op="sum")
        values = torch.stack([loss, broken])
        arrived = None
        if loss.is_cuda:
            values = values.to("cpu", non_blocking=True)  # into pinned memory
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record()
        ids = list(batch["image_id"])
        where = {"epoch": trainer.current_epoch, "batch": batch_idx, "image_ids": ids}
        self._unseen.append((where, values, arrived))
        while len(self._unseen) > (loss.is_cuda and not trainer.is_last_batch):
            self._look(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the steps of the search for a learning rate."""
        self._unseen = []

    def _look(self, trainer: Trainer) -> None:
        where, values, arrived = self._unseen.pop(0)
        if arrived is not None:
            arrived.synchronize()
        loss, broken = values.tolist()
        if not broken:
            return
        path = Path(trainer.default_root_dir) / "nan_batch.json"
        everywhere = gather(where | {"loss": str(loss)})
        if trainer.is_global_zero:
            files.write(path, json.dumps(everywhere, indent=2))
        own = f"the loss is {loss}" if not math.isfinite(loss) else ""
        raise ModelError(
            f"{own or 'a process has a loss that is not finite'} in epoch {where['epoch']}, "
            f"batch {where['batch']}; its image ids are in {path}. Try a lower optimizer.lr, "
            "trainer.precision=32-true or trainer.gradient_clip_val=1"
        )
