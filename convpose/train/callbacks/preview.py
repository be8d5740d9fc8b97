"""Draw validation images with prediction and ground truth for the loggers.

Captions give the mean error of the image in percent of the crop's side.
"""

import math
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from convpose.config.schema import Count, Natural
from convpose.data.datamodule import PoseDataModule
from convpose.data.inspect import gallery
from convpose.train.distributed import gather
from convpose.train.loggers import log_picture, takes_pictures

# TensorBoard shows a sheet 340 px wide, in which the captions are to be read
COLUMNS, LETTERS = 3, 0.1
Seen = tuple[str, float, torch.Tensor]  # image id, mean error, predicted keypoints (K, 2)


class PosePreview(Callback):
    """Draw fixed validation images every few epochs, and the worst ones.

    Args:
        images: how many fixed images, the first of the validation subset; 0 for none.
        worst: how many of the images with the largest mean error; 0 for none.
        every_epochs: pause between pictures; the last epoch always has one.
    """

    def __init__(self, images: Natural = 9, worst: Natural = 9, every_epochs: Count = 1) -> None:
        self.images = images
        self.worst = worst
        self.every_epochs = every_epochs
        self._seen: list[Seen] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last epoch."""
        self._seen = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep each image's mean error and prediction."""
        if not self._is_due(trainer):
            return
        predicted = outputs["keypoints"].detach().float().cpu()
        distance = (predicted - batch["keypoints"].cpu()).norm(dim=-1).nanmean(dim=1)
        self._seen += zip(batch["image_id"], distance.tolist(), predicted, strict=True)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the images of all processes and write them to the loggers."""
        if not self._is_due(trainer):
            return
        data: PoseDataModule = trainer.datamodule  # type: ignore[attr-defined]
        dataset = data.datasets["val"]
        position = {image_id: i for i, image_id in enumerate(dataset.image_ids)}
        fixed = [entry for entry in self._seen if position[entry[0]] < self.images]
        worst = sorted(self._seen, key=_error, reverse=True)[: self.worst]
        shares = gather((fixed, worst))
        if not trainer.is_global_zero:
            return
        fixed = sorted(
            (entry for share in shares for entry in share[0]), key=lambda e: position[e[0]]
        )
        worst = sorted((entry for share in shares for entry in share[1]), key=_error, reverse=True)
        for name, chosen in (("fixed", fixed), ("worst", worst[: self.worst])):
            if not chosen:
                continue
            ids, errors, poses = zip(*chosen, strict=True)
            notes = [f"{100 * error:.0f} %" for error in errors]
            positions = [position[image_id] for image_id in ids]
            picture = gallery(
                dataset, positions, data.skeleton, poses, notes, columns=COLUMNS, letters=LETTERS
            )
            log_picture(trainer, f"pictures/{name}", picture, trainer.current_epoch)

    def _is_due(self, trainer: Trainer) -> bool:
        """Tell if this epoch has pictures; all processes give the same answer."""
        last = trainer.current_epoch + 1 == trainer.max_epochs
        chosen = last or trainer.current_epoch % self.every_epochs == 0
        return chosen and takes_pictures(trainer)


def _error(entry: Seen) -> float:
    return -1.0 if math.isnan(entry[1]) else entry[1]  # nothing labelled
