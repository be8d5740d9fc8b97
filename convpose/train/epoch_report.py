"""Report every epoch: a line on the console, a row of metrics.csv, points in the loggers.

The loggers may also get pictures of validation images. Captions give the mean error of the image in
percent of the crop's side.
"""

import math
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from convpose.config.schema import Count, Natural
from convpose.data.datamodule import PoseDataModule
from convpose.data.inspect import gallery
from convpose.history import Row, best_row, read_history, write_history
from convpose.plot.tables import metric_of
from convpose.train.distributed import gather
from convpose.train.loggers import (
    Board,
    chart_names,
    log_numbers,
    log_picture,
    loggers_of,
    takes_pictures,
)

BATCHES_A_POINT = 50  # of main/train/loss_step
# TensorBoard shows a sheet 340 px wide, in which the captions are to be read
COLUMNS, LETTERS = 3, 0.1
Seen = tuple[str, float, torch.Tensor]  # image id, mean error, predicted keypoints (K, 2)


class EpochReport(Callback):
    """Write the numbers of every epoch; the step of all curves is the epoch.

    ``main/train/loss_step`` alone is over optimizer steps, where an epoch has more than 50 batches;
    each point is the mean of as many.

    Args:
        folder: of the run, where ``metrics.csv`` goes; its rows before a resumed epoch are kept.
        monitor: the metric whose best epoch counts.
        mode: ``max`` or ``min`` of the monitor.
        hyperparameters: flat names and values for the loggers.

    Attributes:
        compared: those of them that TensorBoard's HParams has.
    """

    def __init__(
        self, folder: Path, monitor: str, mode: str, hyperparameters: dict[str, Any]
    ) -> None:
        self.path = folder / "metrics.csv"
        self.monitor = monitor
        self.mode = mode
        self.hyperparameters = self.compared = hyperparameters
        self.rows: list[Row] = []
        self._start_s = self._train_s = 0.0
        self._losses: list[torch.Tensor] = []  # of the steps since the last point

    def best(self) -> Row:
        """Find the row of the best epoch by the monitor; empty if there is none."""
        return best_row(self.rows, self.monitor, self.mode)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the rows of a run that is continued, tell the loggers the hyperparameters."""
        self.rows = read_history(self.path) if self.path.exists() else []
        for logger in loggers_of(trainer):
            few = isinstance(logger, Board)
            logger.log_hyperparams(self.compared if few else self.hyperparameters)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the rows of the epochs before this one; Lightning knows it only now."""
        epoch, before = trainer.current_epoch, self.rows
        self.rows = [row for row in before if row["epoch"] < epoch]
        # steps may be forgotten alone, for an epoch's number is smaller; epochs with all steps only
        first = epoch if len(self.rows) < len(before) else trainer.global_step
        for logger in loggers_of(trainer) if trainer.global_step else ():
            if hasattr(logger, "forget_from"):
                logger.forget_from(first)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._start_s, self._train_s = time.perf_counter(), 0.0
        self._losses = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the loss of the last steps, if an epoch is long."""
        if not trainer.loggers or trainer.num_training_batches <= BATCHES_A_POINT:
            return
        self._losses.append(outputs["loss"].detach())
        if (batch_idx + 1) % BATCHES_A_POINT == 0:
            mean = float(torch.stack(self._losses).float().mean())
            self._losses = []
            log_numbers(trainer, {"main/train/loss_step": mean}, trainer.global_step)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the training time: what follows is validation."""
        self._train_s = time.perf_counter() - self._start_s

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Collect the epoch's numbers and write them."""
        seconds = time.perf_counter() - self._start_s
        validated = self._train_s > 0  # if not, Lightning still has the measures of an older epoch
        images = trainer.num_training_batches * trainer.datamodule.batch_size  # type: ignore[attr-defined]
        row = {"epoch": float(trainer.current_epoch)}
        for name, value in trainer.callback_metrics.items():
            if name.startswith("train/") or (name.startswith("val/") and validated):
                row[name] = float(value)
        if validated:
            measures: dict[str, Any] = pl_module.validation  # type: ignore[assignment]
            for joint, measured in measures["per_joint"].items():
                row[f"joint/{joint}"] = float(measured["pck@0.2"])
        groups = trainer.optimizers[0].param_groups
        row["lr"] = float(max(group["lr"] for group in groups))  # of the head, see ParameterGroups
        row["images_per_s"] = images * trainer.world_size / (self._train_s or seconds)
        row["seconds"] = seconds
        self.rows.append(row)
        if trainer.is_global_zero:
            write_history(self.path, self.rows)
            print(_line(row, trainer.max_epochs), flush=True)
        log_numbers(trainer, chart_names(row, self.best(), self.monitor), trainer.current_epoch)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell TensorBoard's HParams that the run succeeded."""
        for logger in loggers_of(trainer) if self.best() else ():
            if hasattr(logger, "log_success"):
                logger.log_success()


class EpochBar(RichProgressBar):
    """Progress bar that counts epochs from 1, as the report does."""

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs} "


def _line(row: Row, max_epochs: int | None) -> str:
    names = ("train/loss", "val/loss", "val/pck@0.2", "val/epe_px", "lr")
    measures = "  ".join(metric_of(name).sentence(row[name]) for name in names if name in row)
    of = f"/{max_epochs}" if max_epochs and max_epochs > 0 else ""
    speed = f"{row['images_per_s']:.0f} images/s"
    return f"epoch {row['epoch'] + 1:.0f}{of}  {measures}  {speed}  {row['seconds']:.1f} s"


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
        *_: Any,
        **__: Any,
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
