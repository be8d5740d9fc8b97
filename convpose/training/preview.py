"""PosePreview: validation images with prediction and truth, for TensorBoard.

Captions give the mean error of the image in percent of the crop's side.
"""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from convpose.data.datamodule import PoseDataModule
from convpose.errors import ConfigError
from convpose.report.gallery import gallery
from convpose.training.epoch_report import tensorboard


class PosePreview(Callback):
    """Draws fixed validation images every few epochs, and the worst ones.

    Args:
        images: how many fixed images, the first of the validation part; 0 for none.
        worst: how many of the images with the largest mean error; 0 for none.
        every_epochs: pause between pictures; the last epoch always has one.

    Raises:
        ConfigError: a pause below one epoch.
    """

    def __init__(self, images: int = 10, worst: int = 10, every_epochs: int = 1) -> None:
        if every_epochs < 1:
            raise ConfigError(f"callbacks.preview.every_epochs={every_epochs}: expected at least 1")
        self.images = images
        self.worst = worst
        self.every_epochs = every_epochs
        self._errors: list[tuple[float, int, torch.Tensor]] = []
        self._position = 0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last epoch."""
        self._errors, self._position = [], 0

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
        predicted = outputs["keypoints"].detach().float().cpu()
        distance = (predicted - batch["keypoints"].cpu()).norm(dim=-1).nanmean(dim=1)
        for error, pose in zip(distance.tolist(), predicted, strict=True):
            self._errors.append((error, self._position, pose))
            self._position += 1

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw and hand over."""
        writer = tensorboard(trainer)
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if writer is None or not (last or trainer.current_epoch % self.every_epochs == 0):
            return
        data: PoseDataModule = trainer.datamodule  # type: ignore[attr-defined]
        dataset = data.datasets["val"]
        worst = sorted(self._errors, key=lambda entry: -entry[0])[: self.worst]
        for name, chosen in (("fixed", self._errors[: self.images]), ("worst", worst)):
            if not chosen:
                continue
            errors, positions, poses = zip(*chosen, strict=True)
            notes = [f"{100 * error:.0f} %" for error in errors]
            picture = gallery(dataset, positions, data.skeleton, poses, notes)
            writer.add_image(f"val/{name}", picture, trainer.current_epoch, dataformats="HWC")
