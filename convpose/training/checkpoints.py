"""BestAndLast: the two checkpoints that a run keeps."""

from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class BestAndLast(ModelCheckpoint):
    """Keeps ``checkpoints/best.ckpt`` and, from before the first step on, ``last.ckpt``.

    Checkpoints stand at the end of an epoch, so that a resumed run repeats an interrupted epoch
    exactly; an interruption costs one epoch at most. Lightning's own ``save_last`` would save the
    last epoch that was the best, and a resumed run would forget all epochs since.

    Args:
        monitor: metric that chooses the best epoch.
        mode: ``max`` or ``min``.
    """

    def __init__(self, monitor: str, mode: str) -> None:
        super().__init__(
            monitor=monitor,
            mode=mode,
            filename="best",
            enable_version_counter=False,
            save_on_train_epoch_end=True,
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the untrained network: an interruption in the first epoch leaves something too."""
        super().on_train_start(trainer, pl_module)
        if trainer.current_epoch == 0:
            self._save_last(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the epoch as the last, and as the best if it is."""
        if self.monitor in trainer.callback_metrics:  # else no epoch has been validated yet
            super().on_train_epoch_end(trainer, pl_module)
        self._save_last(trainer)

    def _save_last(self, trainer: Trainer) -> None:
        trainer.save_checkpoint(Path(str(self.dirpath)) / "last.ckpt")
