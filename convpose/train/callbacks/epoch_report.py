"""Report every epoch: a line on the console, a row of metrics.csv, points in TensorBoard."""

import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.fabric.loggers.tensorboard import TensorBoardLogger as EventsOnly
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from convpose.history import Row, best_row, read_history, write_history

SESSION_START, SESSION_END = 1, 2  # of the summaries that torch makes of hyperparameters
ONE_CHART = {"losses": {"train/loss and val/loss": ["Multiline", ["train/loss", "val/loss"]]}}


class EpochReport(Callback):
    """Write the numbers of every epoch; the step of all curves is the epoch.

    HParams lists a run from its start on, by ``best/MONITOR`` and what else its best epoch gave.
    TensorBoard finds out itself which hyperparameters differ between the runs that it was given:
    an ``Experiment`` summary, of which it reads one run's only, would hide the others' keys.

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
        """Find the row of the best epoch by the monitor; empty if there is none."""
        return best_row(self.rows, self.monitor, self.mode)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the rows of a run that is continued, lay out the loss chart."""
        self.rows = read_history(self.path) if self.path.exists() else []
        if writer := tensorboard(trainer):
            writer.add_custom_scalars(ONE_CHART)
            self._enter(writer, SESSION_START)

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
        if writer := tensorboard(trainer):
            for name, point in (row | self._best_curves(row)).items():
                if name != "epoch":
                    writer.add_scalar(name, point, trainer.current_epoch)
            writer.flush()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell HParams that the run succeeded."""
        writer = tensorboard(trainer)
        if writer and self.best():
            self._enter(writer, SESSION_END)
            writer.flush()

    def _best_curves(self, row: Row) -> Row:
        """Make the metrics of HParams if the epoch is the best so far, else none."""
        if self.best() is not row:
            return {}
        validation = {k: v for k, v in row.items() if k.startswith("val/") and k != self.monitor}
        others = {"epoch": row["epoch"] + 1} | validation
        # TensorBoard sorts by name and shows the first five: the monitor, then the others
        return {f"best/{self.monitor}": row[self.monitor]} | {
            f"best_epoch/{name}": value for name, value in others.items()
        }

    def _enter(self, writer: SummaryWriter, part: int) -> None:
        given = self.hyperparameters.items()
        values = {k: str(v).lower() if isinstance(v, bool) else v for k, v in given}  # else 0 or 1
        summary = hparams(values, {})[part]  # type: ignore[no-untyped-call]
        writer._get_file_writer().add_summary(summary)  # type: ignore[no-untyped-call]


class EpochBar(RichProgressBar):
    """Progress bar that counts epochs from 1, as the report does."""

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs} "


def tensorboard(trainer: Trainer) -> SummaryWriter | None:
    """Find the run's TensorBoard writer, in the process that writes; None if there is none."""
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


class Board(TensorBoardLogger):
    """TensorBoard logger without ``hparams.yaml``: the run has its ``config.yaml``."""

    def save(self) -> None:
        """Write the remaining events."""
        EventsOnly.save(self)
