"""Keep the checkpoints of a run, write them to the disk, and find damage in them."""

import logging
import math
import zipfile
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from convpose import files
from convpose.errors import ModelError
from convpose.models.weights import read_weights

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"
log = logging.getLogger(__name__)


class BestAndLast(Checkpoint):
    """Keep ``best``, ``last`` and ``previous.ckpt`` in the run's folder ``checkpoints``.

    Checkpoints stand at the end of an epoch, so that a resumed run repeats an interrupted epoch
    exactly; an interruption costs one epoch at most. There is a ``last`` from before the first step
    on, and ``previous``, the one before it, serves where a failing disk has damaged it.

    Each name is a file of its own, which is on the disk before it takes its place in one step:
    whenever the process is killed or the power cut, every name is a complete checkpoint.
    Lightning's ModelCheckpoint writes an epoch once for each name, and its ``save_last`` follows
    the best epoch only, so that a resumed run would forget all epochs since.

    Args:
        monitor: metric that chooses the best epoch.
        mode: ``max`` or ``min``.
    """

    def __init__(self, monitor: str, mode: Literal["max", "min"]) -> None:
        self.monitor = monitor
        self.sign = 1 if mode == "max" else -1
        self.best: float | None = None
        self._last_is_damaged = False

    def state_dict(self) -> dict[str, Any]:
        """Save the best value, for a resumed run."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best value so far."""
        self.best = state_dict["best"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the untrained network: an interruption in the first epoch leaves something too."""
        # a run that goes on from the previous one must not overwrite it with the damaged last one
        self._last_is_damaged = Path(str(trainer.ckpt_path)).name == PREVIOUS
        best = Path(trainer.default_root_dir) / "checkpoints" / BEST
        if best.is_file() and trainer.ckpt_path and (problem := damage(best)):
            log.warning(
                "%s is damaged (%s); the best of the epochs to come takes its place", best, problem
            )
            if trainer.is_global_zero:
                best.replace(best.with_name("damaged.ckpt"))
            self.best = None
        elif not best.is_file():
            self.best = None  # of another folder, whose best this one must not be left without
        if trainer.current_epoch == 0:
            self._save(trainer, best=False)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the epoch as the last, and as the best if it is."""
        value = float(trainer.callback_metrics.get(self.monitor, math.nan))
        better = self.best is None or self.sign * (value - self.best) > 0
        if better := better and math.isfinite(value):
            self.best = value
        self._save(trainer, better)

    def _save(self, trainer: Trainer, best: bool) -> None:
        folder = Path(trainer.default_root_dir) / "checkpoints"
        new, last = folder / "next.ckpt", folder / LAST
        trainer.save_checkpoint(new)  # all processes together; the first one writes
        if not trainer.is_global_zero:
            return
        if best:
            files.duplicate(new, folder / BEST)
        if last.exists() and not self._last_is_damaged:
            files.keep(last, folder / PREVIOUS)
        new.replace(last)
        files.sync_names(folder)
        self._last_is_damaged = False


def damage(path: Path) -> str | None:
    """Describe the damage of a checkpoint that a run has written; None if there is none.

    Every byte is checked by the file's checksums, which `torch.load` does not do, and nothing but
    tensors and plain containers is unpickled.
    """
    try:
        with zipfile.ZipFile(path) as file:
            wrong = file.testzip()
        if wrong is not None:
            return f"the checksum of {wrong} does not match"
        read_weights(path)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        return str(error) or type(error).__name__
    except ModelError as error:
        return str(error).removeprefix(f"{path}: ")
    return None


class DirectFiles(TorchCheckpointIO):
    """Write a checkpoint beside its place, then move it there.

    Lightning writes to memory, then to the system's folder for temporary files. Where that is
    another file system, its move is a copy, which a kill or a full disk cuts off.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Save tensors and plain containers."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(Path(path), synced=True) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # torch closes its archive after a failed write, fails again, and hides the reason
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
