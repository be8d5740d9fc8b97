"""EpochReport: every epoch as one line on the console, one row of metrics.csv and TensorBoard."""

import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from convpose.report.history import Row, best_row, read_history, write_history

ONE_CHART = {"losses": {"train/loss and val/loss": ["Multiline", ["train/loss", "val/loss"]]}}


class EpochReport(Callback):
    """Writes what every epoch gave; the step of all curves is the epoch.

    Args:
        folder: of the run, where ``metrics.csv`` goes; its rows before a resumed epoch are kept.
        monitor: the metric whose best epoch counts.
        mode: ``max`` or ``min`` of the monitor.
        hyperparameters: flat names and values for TensorBoard's HParams.
    """

    def __init__(
        self, folder: Path, monitor: str, mode: str, hyperparameters: dict[str, Any]
    ) -> None:
        self.path = folder / "metrics.csv"
        self.monitor = monitor
        self.mode = mode
        self.hyperparameters = hyperparameters
        self.rows: list[Row] = []
        self._start_s = self._train_s = 0.0

    def best(self) -> Row:
        """The row of the best epoch by the monitor; empty if there is none."""
        return best_row(self.rows, self.monitor, self.mode)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the rows of a run that is continued, lay out the loss chart."""
        self.rows = read_history(self.path) if self.path.exists() else []
        if writer := tensorboard(trainer):
            writer.add_custom_scalars(ONE_CHART)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the rows of the epochs before this one; Lightning knows it only now."""
        self.rows = [row for row in self.rows if row["epoch"] < trainer.current_epoch]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._start_s, self._train_s = time.perf_counter(), 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the training time: what follows is validation."""
        self._train_s = time.perf_counter() - self._start_s

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Collect the epoch's numbers and hand them out."""
        seconds = time.perf_counter() - self._start_s
        validated = self._train_s > 0  # if not, Lightning still has the measures of an older epoch
        images = trainer.num_training_batches * trainer.datamodule.batch_size  # type: ignore[attr-defined]
        row = {"epoch": float(trainer.current_epoch)}
        for name, value in trainer.callback_metrics.items():
            if name.startswith("train/") or (name.startswith("val/") and validated):
                row[name] = float(value)
        row["lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        row["images_per_s"] = images * trainer.world_size / (self._train_s or seconds)
        row["seconds"] = seconds
        self.rows.append(row)
        if trainer.is_global_zero:
            write_history(self.path, self.rows)
            print(_line(row, trainer.max_epochs), flush=True)
        if writer := tensorboard(trainer):
            measures: dict[str, Any] = pl_module.validation  # type: ignore[assignment]
            joints = measures["per_joint"].items() if validated else ()
            curves = row | {f"joint/{name}": joint["pck@0.2"] for name, joint in joints}
            for name, value in curves.items():
                if name != "epoch":
                    writer.add_scalar(name, value, trainer.current_epoch)
            writer.flush()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Enter the run into TensorBoard's HParams with its best validation measures."""
        best = self.best()
        writer = tensorboard(trainer)
        if writer is None or not best:
            return
        metrics = {f"best/{k}": v for k, v in best.items() if k.startswith("val/")}
        metrics["best/epoch"] = best["epoch"]
        summaries = hparams(self.hyperparameters, metrics)  # type: ignore[no-untyped-call]
        for summary in summaries:
            writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]
        for name, value in metrics.items():
            writer.add_scalar(name, value, int(best["epoch"]))
        writer.flush()


class EpochBar(RichProgressBar):
    """A progress bar that counts epochs from 1, as the report does."""

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs} "


def tensorboard(trainer: Trainer) -> SummaryWriter | None:
    """The run's TensorBoard writer, in the process that writes; None where there is none."""
    if trainer.is_global_zero and isinstance(trainer.logger, TensorBoardLogger):
        writer: SummaryWriter = trainer.logger.experiment
        return writer
    return None


def _line(row: Row, max_epochs: int | None) -> str:
    measures = "  ".join(
        f"{name} {row[key]:.4g}"
        for name, key in (
            ("train/loss", "train/loss"),
            ("val/loss", "val/loss"),
            ("PCK@0.2", "val/pck@0.2"),
            ("EPE px", "val/epe_px"),
            ("lr", "lr"),
        )
        if key in row
    )
    of = f"/{max_epochs}" if max_epochs and max_epochs > 0 else ""
    speed = f"{row['images_per_s']:.0f} images/s"
    return f"epoch {row['epoch'] + 1:.0f}{of}  {measures}  {speed}  {row['seconds']:.1f} s"
