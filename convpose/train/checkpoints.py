"""Keep the checkpoints of a run, and write them to the disk."""

import math
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from convpose import files

BEST, LAST, PREVIOUS = "best.ckpt", "last.ckpt", "previous.ckpt"


class BestAndLast(Checkpoint):
    """Keep ``best``, ``last`` and ``previous.ckpt`` in the run's folder ``checkpoints``.

    Checkpoints stand at the end of an epoch, so that a resumed run repeats an interrupted epoch
    exactly; an interruption costs one epoch at most. There is a ``last`` from before the first step
    on, and ``previous``, the one before it, serves where a failing disk has damaged it.

    An epoch is written once. Best and previous are further names of what was written, and each
    name changes in one step: whenever the process is killed, every name is a complete checkpoint.
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
        if not (Path(trainer.default_root_dir) / "checkpoints" / BEST).is_file():
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
            files.duplicate(last, folder / PREVIOUS)
        new.replace(last)
        self._last_is_damaged = False


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
        with files.replacing(Path(path)) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # torch closes its archive after a failed write, fails again, and hides the reason
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise
